#include "tandem/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <iostream>
#include <random>
#include <thread>

#include "model/refusal.h"
#include "model/temporary_directory.h"

namespace tandem {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A file of this header and as many bytes of data, counting up.
std::string file_of(const std::string& header, size_t data_bytes) {
  std::string file(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(file.data(), &length, 8);
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

std::span<const std::byte> bytes_of(const std::string& file) {
  return std::as_bytes(std::span(file));
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors(bytes_of(file), "w.safetensors");
}

// Two tensors and metadata, as any other program might write them.
std::string sound_file() {
  return file_of(R"({"__metadata__":{"format":"pt"},)"
                 R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]},)"
                 R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}   )",
                 30);
}

TEST(Safetensors, ReadsASoundFile) {
  const std::string file = sound_file();
  const SafetensorsHeader header = parse(file);
  ASSERT_EQ(header.tensors.size(), 2u);
  const StoredTensor& a = header.tensors[0];
  const StoredTensor& b = header.tensors[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, StoredType::f32);
  EXPECT_EQ(a.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a.elements(), 6);
  EXPECT_EQ(b.bytes, (Interval{24, 30}));
  EXPECT_EQ(static_cast<int>(b.data[0]), 24);
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.data_offset, static_cast<int64_t>(file.size()) - 30);
}

TEST(Safetensors, ReadsNothingAndScalars) {
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  const SafetensorsHeader header =
      parse(file_of(R"({"empty":{"dtype":"I64","shape":[0,5],"data_offsets":[0,0]},)"
                    R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
                    1));
  EXPECT_EQ(header.tensors[0].elements(), 0);
  EXPECT_EQ(header.tensors[1].elements(), 1);
}

struct HostileFile {
  const char* name;
  std::string file;
  const char* message;
};

void PrintTo(const HostileFile& hostile, std::ostream* out) { *out << hostile.name; }

std::string with_length(uint64_t length, const std::string& rest) {
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + rest;
}

std::string one(const std::string& tensor, size_t data_bytes) {
  return file_of("{\"t\":" + tensor + "}", data_bytes);
}

class Hostile : public testing::TestWithParam<HostileFile> {};

TEST_P(Hostile, IsRefused) {
  EXPECT_THAT(refusal([] { parse(GetParam().file); }),
              AllOf(HasSubstr("w.safetensors: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Length, Hostile,
    testing::Values(
        HostileFile{"nothing", "", "0 bytes are too few"},
        HostileFile{"seven_bytes", "1234567", "7 bytes are too few"},
        HostileFile{"beyond_the_file", with_length(3, "{}"),
                    "header length 3 is more than the file"},
        HostileFile{"huge", with_length(200'000'000, "{}"), "header length 200000000 is more than"},
        HostileFile{"negative", with_length(~uint64_t{0}, "{}"), "is more than 100000000"},
        HostileFile{"overflowing", with_length(~uint64_t{0} - 7, "{}"), "is more than 100000000"},
        HostileFile{"zero", with_length(0, "{}"), "not a JSON object"}));

INSTANTIATE_TEST_SUITE_P(
    Json, Hostile,
    testing::Values(
        HostileFile{"not_json", file_of("{hello", 0), "not valid JSON"},
        HostileFile{"list", file_of("[]", 0), "not a JSON object"},
        HostileFile{"leading_space", file_of(" {}", 0), "not a JSON object"},
        HostileFile{"trailing", file_of("{} x", 0), "not valid JSON"},
        HostileFile{"unfinished", file_of("{\"a\":{", 0), "not valid JSON"},
        HostileFile{"not_utf8", file_of("{\"\xff\":{}}", 0), "not valid JSON"},
        HostileFile{"deep", file_of("{\"a\":" + std::string(100'000, '['), 0), "tensor a"},
        HostileFile{"deep_objects", file_of("{\"a\":{\"shape\":{", 0), "an object where none"},
        HostileFile{"deep_shape", file_of("{\"a\":{\"shape\":[[", 0), "a list where none"},
        HostileFile{"huge_number", one(R"({"dtype":"U8","shape":[1e999]})", 0), "not valid JSON"}));

INSTANTIATE_TEST_SUITE_P(
    Structure, Hostile,
    testing::Values(
        HostileFile{"not_a_tensor", one("3", 0), "tensor t: a number where none"},
        HostileFile{"null", one("null", 0), "tensor t: null"},
        HostileFile{"line_break", file_of("{\"a\\nb\":3}", 0), "tensor a?b"},
        HostileFile{"no_dtype", one(R"({"shape":[],"data_offsets":[0,1]})", 1), "dtype is missing"},
        HostileFile{"no_shape", one(R"({"dtype":"U8","data_offsets":[0,1]})", 1),
                    "shape is missing"},
        HostileFile{"no_offsets", one(R"({"dtype":"U8","shape":[1]})", 1),
                    "data_offsets is missing"},
        HostileFile{"unknown_dtype", one(R"({"dtype":"F31","shape":[1],"data_offsets":[0,4]})", 4),
                    "dtype F31 is unknown"},
        HostileFile{"dtype_number", one(R"({"dtype":3})", 4), "dtype: a number"},
        HostileFile{"unknown_field", one(R"({"color":"red"})", 4), "color: an unknown field"},
        HostileFile{"field_twice", one(R"({"dtype":"U8","dtype":"U8"})", 4), "dtype: a field that"},
        HostileFile{"tensor_twice",
                    file_of(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                            R"("t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                            2),
                    "tensor t is there twice"},
        HostileFile{"metadata_twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
                    "__metadata__ is there twice"},
        HostileFile{"metadata_number", file_of(R"({"__metadata__":{"a":1}})", 0),
                    "__metadata__: a: a number"},
        HostileFile{"metadata_string", file_of(R"({"__metadata__":"a"})", 0),
                    "__metadata__: a string"},
        HostileFile{"many_dimensions",
                    one(R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]})", 1),
                    "more than 16 dimensions"}));

INSTANTIATE_TEST_SUITE_P(
    Sizes, Hostile,
    testing::Values(
        HostileFile{"cut", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 7),
                    "cut short"},
        HostileFile{"longer", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 9),
                    "the tensors end at byte 8 of 9"},
        HostileFile{"backwards", one(R"({"dtype":"U8","shape":[2],"data_offsets":[2,0]})", 2),
                    "data_offsets 2..0"},
        HostileFile{"negative_offset",
                    one(R"({"dtype":"U8","shape":[2],"data_offsets":[-1,1]})", 2),
                    "a negative number"},
        HostileFile{"negative_shape", one(R"({"dtype":"U8","shape":[-2],"data_offsets":[0,2]})", 2),
                    "a negative number"},
        HostileFile{"fraction", one(R"({"dtype":"U8","shape":[2.0],"data_offsets":[0,2]})", 2),
                    "a fraction"},
        HostileFile{"beyond_int64", one(R"({"dtype":"U8","shape":[18446744073709551615]})", 2),
                    "too large"},
        HostileFile{"one_offset", one(R"({"dtype":"U8","shape":[2],"data_offsets":[2]})", 2),
                    "fewer than two offsets"},
        HostileFile{"three_offsets", one(R"({"dtype":"U8","shape":[2],"data_offsets":[0,1,2]})", 2),
                    "more than two offsets"},
        HostileFile{"wrong_size", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4),
                    "take 8 bytes, but data_offsets span 4"},
        // 2^32 * 2^32 and 2^62 * 4 bytes are both 0 modulo 2^64.
        HostileFile{
            "product_overflow",
            one(R"({"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]})", 0),
            "shape is too large"},
        HostileFile{"bytes_overflow",
                    one(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})", 0),
                    "shape is too large"},
        HostileFile{"overlap",
                    file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                            R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                            6),
                    "they overlap"},
        HostileFile{"same_bytes",
                    file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                            R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                            4),
                    "they overlap"},
        HostileFile{"hole",
                    file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                            R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
                            6),
                    "there is a hole"},
        HostileFile{"hole_in_front", one(R"({"dtype":"U8","shape":[2],"data_offsets":[1,3]})", 3),
                    "there is a hole"}));

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::string file = sound_file();
  for (size_t length = 0; length < file.size(); ++length) {
    EXPECT_NE(refusal([&] { parse(file.substr(0, length)); }), "no refusal") << length;
  }
}

// Whatever is done to a file, it is read soundly or refused.
TEST(Safetensors, DamagedFilesAreReadSoundlyOrRefused) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::cout << "seed " << seed << "\n";  // also where the program crashes
  std::cout.flush();
  std::mt19937 random(seed);
  const std::string sound = sound_file();
  const size_t header_end = sound.size() - 30;
  int parsed = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string file = sound;
    const uint32_t flips = 1 + random() % 4;
    for (uint32_t i = 0; i < flips; ++i) {
      // Mostly in the header: any data is good data.
      const size_t at = random() % (i == 0 ? header_end : file.size());
      file[at] = static_cast<char>(file[at] ^ (1 << random() % 8));
    }
    try {
      const SafetensorsHeader header = parse(file);
      int64_t covered = 0;
      for (const StoredTensor& tensor : header.tensors) {
        const std::byte* begin = bytes_of(file).data() + header.data_offset + tensor.bytes.begin;
        ASSERT_EQ(tensor.data, begin);
        ASSERT_EQ(tensor.elements() * size_of(tensor.dtype), tensor.bytes.size());
        covered += tensor.bytes.size();
      }
      ASSERT_EQ(header.data_offset + covered, static_cast<int64_t>(file.size()));
      ++parsed;
    } catch (const InputError&) {
    }
  }
  EXPECT_GT(parsed, 0);  // some flips only change a name
}

TEST(SafetensorsFile, RefusesWhatIsNoFile) {
  const TemporaryDirectory directory;
  EXPECT_THAT(refusal([&] { SafetensorsFile(directory / "none"); }),
              AllOf(HasSubstr("none: "), HasSubstr("No such file")));
  EXPECT_THAT(refusal([&] { SafetensorsFile(directory.path()); }), HasSubstr("cannot be read"));
  directory.put("empty", "");
  EXPECT_THAT(refusal([&] { SafetensorsFile(directory / "empty"); }),
              AllOf(HasSubstr("empty: "), HasSubstr("too few")));
}

TEST(SafetensorsFile, KeepsItsDataWhenMovedAndReleased) {
  const TemporaryDirectory directory;
  directory.put("w", sound_file());
  SafetensorsFile first(directory / "w");
  const SafetensorsFile file(std::move(first));
  const StoredTensor* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(file.find("c"), nullptr);
  EXPECT_EQ(static_cast<int>(b->data[0]), 24);
  file.release_pages(*b);
  EXPECT_EQ(static_cast<int>(b->data[5]), 29);
}

std::vector<float> counting(int64_t n) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(static_cast<float>(i));
  return values;
}

TEST(SafetensorsWriter, WhatIsWrittenIsRead) {
  const TemporaryDirectory directory;
  const std::vector<TensorToStore> tensors = {{"half", StoredType::bf16, {3}},
                                              {"model.\"quoted\".weight", StoredType::f32, {40, 5}},
                                              {"empty", StoredType::i64, {0}},
                                              {"flags", StoredType::boolean, {3}}};
  const std::vector<float> values = counting(200);
  {
    SafetensorsWriter writer(directory / "w", tensors, {{"step", "7"}, {"odd", "\"\n"}});
    EXPECT_EQ(std::filesystem::file_size(directory / "w"),
              static_cast<size_t>(writer.file_bytes()));
    std::vector<std::thread> threads;  // quarters, each from a thread of its own
    for (int64_t quarter = 0; quarter < 4; ++quarter) {
      threads.emplace_back([&, quarter] {
        writer.write(
            tensors[1].name, quarter * 200,
            std::as_bytes(std::span(values).subspan(static_cast<size_t>(quarter * 50), 50)));
      });
    }
    for (std::thread& thread : threads) thread.join();
    const uint16_t half[] = {1, 2, 3};
    writer.write("half", 0, std::as_bytes(std::span(half)));
    writer.close();
  }
  const SafetensorsFile file(directory / "w");
  EXPECT_EQ(file.data_offset() % 64, 0);
  EXPECT_EQ(file.metadata().at("step"), "7");
  EXPECT_EQ(file.metadata().at("odd"), "\"\n");
  EXPECT_EQ(file.tensors().size(), 4u);
  const StoredTensor* weight = file.find(tensors[1].name);
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->shape, tensors[1].shape);
  EXPECT_EQ(std::memcmp(weight->data, values.data(), 800), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.find("half")->data) % 2, 0u);
  EXPECT_EQ(static_cast<int>(file.find("half")->data[4]), 3);
}

TEST(SafetensorsWriter, RangesAreThoseOfTheFile) {
  const TemporaryDirectory directory;
  SafetensorsWriter writer(directory / "w",
                           {{"a", StoredType::u8, {5}}, {"b", StoredType::f32, {2}}});
  const Interval a = writer.range("a");
  const Interval b = writer.range("b");
  writer.close();
  const SafetensorsFile file(directory / "w");
  EXPECT_EQ(b, file.find("b")->bytes.shifted(file.data_offset()));
  EXPECT_EQ(a, file.find("a")->bytes.shifted(file.data_offset()));
  EXPECT_EQ(b.end, a.begin);  // the wider type comes first
  EXPECT_EQ(a.end, file.file_bytes());
}

std::string world_error(const std::function<void()>& function) {
  try {
    function();
  } catch (const WorldError& e) {
    return e.what();
  }
  return "no error";
}

TEST(SafetensorsWriter, FailuresNameTheFile) {
  const TemporaryDirectory directory;
  EXPECT_THAT(world_error([&] { SafetensorsWriter(directory / "no/such/w", {}); }),
              AllOf(HasSubstr("no/such/w"), HasSubstr("No such file")));
  // Nothing has this much room: found before a byte is written.
  EXPECT_THAT(world_error([&] {
                SafetensorsWriter(directory / "w", {{"t", StoredType::u8, {int64_t{1} << 50}}});
              }),
              AllOf(HasSubstr("reserve"), HasSubstr((directory / "w").string())));
  EXPECT_THAT(world_error([] { SafetensorsWriter("/dev/full", {}); }), HasSubstr("/dev/full: "));
}

TEST(SafetensorsWriter, BugsStopTheProgram) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const TemporaryDirectory directory;
  const SafetensorsWriter writer(directory / "w", {{"t", StoredType::u8, {4}}});
  const std::byte bytes[4] = {};
  EXPECT_DEATH(writer.write("t", 1, bytes), "4 bytes at 1 of the 4 bytes of t");
  EXPECT_DEATH(writer.write("t", -1, bytes), "bytes of t");
  EXPECT_DEATH(writer.write("u", 0, bytes), "no tensor u");
}

}  // namespace
}  // namespace tandem
