#include "tandem/state/parameter_store.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "model/refusal.h"
#include "model/temporary_directory.h"
#include "tandem/device/cpu/cpu_device.h"

namespace tandem::test {
namespace {

ModelConfig tiny_model() {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.layers = 1;
  c.heads = c.kv_heads = 2;
  c.head_dim = 4;
  c.max_positions = 16;
  c.experts = 2;
  c.top_k = 1;
  c.expert_hidden = 5;
  c.initializer_range = 0.5;
  return c;
}

// What element i of the parameter numbered p is in the files below: exact in every format.
float number_of(size_t p, int64_t i) {
  const float magnitude = static_cast<float>((p * 7 + i) % 128) / 16;
  return i % 3 == 0 ? -magnitude : magnitude;
}

void append(std::string& data, StoredType type, float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto upper = static_cast<uint16_t>(bits >> 16);
  const auto half = static_cast<uint16_t>(
      bits << 1 == 0
          ? upper & 0x8000
          : (upper & 0x8000) | ((((bits >> 23) & 255) - 112) << 10) | ((bits >> 13) & 1023));
  if (type == StoredType::f32)
    data.append(reinterpret_cast<const char*>(&bits), 4);
  else
    data.append(reinterpret_cast<const char*>(type == StoredType::bf16 ? &upper : &half), 2);
}

// A model directory whose weights are written by hand: all of one type, the data `shift` bytes off
// what alignment would have.
std::shared_ptr<const ModelFiles> written(const TemporaryDirectory& directory, StoredType type,
                                          int shift = 0) {
  const ModelConfig config = tiny_model();
  directory.put("config.json", config_json(config));
  std::string header = "{", data;
  const std::vector<Parameter> all = parameters(config);
  for (size_t p = 0; p < all.size(); ++p) {
    const size_t begin = data.size();
    for (int64_t i = 0; i < all[p].elements(); ++i) append(data, type, number_of(p, i));
    std::string shape;
    for (const int64_t size : all[p].stored_shape())
      shape += (shape.empty() ? "" : ",") + std::to_string(size);
    header +=
        fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", p ? "," : "",
                    all[p].name, stored_type_name(type), shape, begin, data.size());
  }
  header += "}";
  while ((8 + header.size()) % 64 != static_cast<size_t>(shift)) header += ' ';
  const uint64_t length = header.size();
  directory.put("model.safetensors",
                std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
  return std::make_shared<const ModelFiles>(directory.path());
}

std::vector<float> values_of(const Tensor& t) {
  std::vector<float> values;
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t c = 0; c < t.cols; ++c)
      values.push_back(t.dtype == DType::f32
                           ? t.row<float>(r)[c]
                           : std::bit_cast<float>(uint32_t{t.row<uint16_t>(r)[c]} << 16));
  return values;
}

void expect_contents(const ParameterStore& store) {
  const std::vector<Parameter> all = parameters(store.config());
  for (size_t p = 0; p < all.size(); ++p) {
    const Tensor t = store.whole(all[p].id);
    ASSERT_EQ(t.rows, all[p].rows);
    ASSERT_EQ(t.cols, all[p].cols);
    ASSERT_EQ(t.dtype, store.dtype());
    const std::vector<float> values = values_of(t);
    for (int64_t i = 0; i < all[p].elements(); ++i)
      ASSERT_EQ(values[i], number_of(p, i)) << all[p].name << " element " << i;
  }
}

struct Loading {
  StoredType stored;
  int shift;
  DType dtype;
  bool trainable, mapped;
};

TEST(ParameterStore, LoadsEveryTypeFromAnyAlignment) {
  for (const Loading& l : {Loading{StoredType::f32, 0, DType::f32, false, true},
                           Loading{StoredType::bf16, 0, DType::bf16, false, true},
                           Loading{StoredType::bf16, 2, DType::bf16, false, true},
                           Loading{StoredType::f32, 0, DType::f32, true, false},
                           Loading{StoredType::f32, 2, DType::f32, false, false},
                           Loading{StoredType::bf16, 1, DType::bf16, false, false},
                           Loading{StoredType::f32, 0, DType::bf16, false, false},
                           Loading{StoredType::bf16, 0, DType::f32, false, false},
                           Loading{StoredType::f16, 0, DType::f32, false, false},
                           Loading{StoredType::f16, 3, DType::bf16, true, false}}) {
    SCOPED_TRACE(testing::Message() << stored_type_name(l.stored) << " + " << l.shift << " as "
                                    << dtype_name(l.dtype) << (l.trainable ? ", trainable" : ""));
    const TemporaryDirectory directory;
    const auto device = make_cpu_device(1);
    const ParameterStore store =
        ParameterStore::load(written(directory, l.stored, l.shift), l.dtype, l.trainable, *device);
    expect_contents(store);
    const int64_t bytes = parameter_count(store.config()) * size_of(l.dtype);
    EXPECT_EQ(store.mapped_bytes(), l.mapped ? bytes : 0);
    EXPECT_EQ(store.copied_bytes(), l.mapped ? 0 : bytes);
  }
}

TEST(ParameterStore, KeepsTheMappingAndLetsTrainedWeightsBeWritten) {
  const TemporaryDirectory directory;
  const auto device = make_cpu_device(1);
  const auto files = written(directory, StoredType::f32);
  std::weak_ptr<const ModelFiles> alive = files;
  const ParameterStore trained = ParameterStore::load(files, DType::f32, true, *device);
  for (const Parameter& p : parameters(trained.config())) trained.whole(p.id).row<float>(0)[0] = 9;
  expect_contents(ParameterStore::load(files, DType::f32, false, *device));
  EXPECT_FALSE(alive.expired());
}

TEST(ParameterStore, HalfPrecisionIsReadExactlyToItsLimits) {
  const TemporaryDirectory directory;
  const auto device = make_cpu_device(1);
  (void)written(directory, StoredType::f16);
  // Element 0 of the last parameter's data is overwritten with special numbers, one after the
  // other.
  const Parameter head = parameters(tiny_model()).back();
  for (const auto& [bits, value] : std::vector<std::pair<uint16_t, float>>{{0x3C00, 1.0f},
                                                                           {0xC000, -2.0f},
                                                                           {0x0000, 0.0f},
                                                                           {0x0001, 0x1p-24f},
                                                                           {0x83FF, -0x1.FF8p-15f},
                                                                           {0x0400, 0x1p-14f},
                                                                           {0x7BFF, 65504.0f},
                                                                           {0x7C00, INFINITY},
                                                                           {0xFC00, -INFINITY},
                                                                           {0x7E00, NAN}}) {
    const auto file = directory / "model.safetensors";
    const auto at =
        static_cast<std::streamoff>(std::filesystem::file_size(file)) - 2 * head.elements();
    {
      std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
      stream.seekp(at);
      stream.write(reinterpret_cast<const char*>(&bits), 2);
    }
    const ParameterStore store = ParameterStore::load(
        std::make_shared<const ModelFiles>(directory.path()), DType::f32, false, *device);
    const float read = store.whole(head.id).row<float>(0)[0];
    EXPECT_TRUE(read == value || (std::isnan(read) && std::isnan(value))) << read << " " << value;
    EXPECT_EQ(std::signbit(read), std::signbit(value));
  }
}

TEST(ParameterStore, WeightsThatDoNotFitAreRefused) {
  const TemporaryDirectory directory;
  const auto device = make_cpu_device(1);
  (void)written(directory, StoredType::f32);
  ModelConfig config = tiny_model();
  config.expert_hidden = 6;
  directory.put("config.json", config_json(config));
  const std::string message = refusal([&] {
    (void)ParameterStore::load(std::make_shared<const ModelFiles>(directory.path()), DType::f32,
                               false, *device);
  });
  EXPECT_THAT(message, ::testing::HasSubstr("experts.0.w"));
}

TEST(ParameterStore, RandomWeightsFollowFromTheSeedAlone) {
  const auto device = make_cpu_device(1), threads = make_cpu_device(2);
  const ModelConfig config = tiny_model();
  const ParameterStore a = ParameterStore::random(config, 5, DType::f32, *device);
  const ParameterStore b = ParameterStore::random(config, 5, DType::f32, *threads);
  const ParameterStore other = ParameterStore::random(config, 6, DType::f32, *device);
  double sum = 0, squares = 0;
  int64_t count = 0;
  for (const Parameter& p : parameters(config)) {
    const std::vector<float> values = values_of(a.whole(p.id));
    EXPECT_EQ(values, values_of(b.whole(p.id))) << p.name;
    if (p.is_vector()) {
      EXPECT_EQ(values, std::vector<float>(values.size(), 1.0f)) << p.name;  // norms alone here
      continue;
    }
    EXPECT_NE(values, values_of(other.whole(p.id))) << p.name;
    for (const float v : values) sum += v, squares += double{v} * v, ++count;
  }
  EXPECT_NEAR(sum / static_cast<double>(count), 0, 0.08);
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(count)), config.initializer_range, 0.06);
}

TEST(ParameterStore, RegionsAreViews) {
  const auto device = make_cpu_device(1);
  const ParameterStore store = ParameterStore::random(tiny_model(), 5, DType::f32, *device);
  const ParameterId id{ParameterKind::expert_down, 0, 1};  // [8, 5]
  const Tensor whole = store.whole(id);
  const Tensor region = store.region({id, {2, 7}, {1, 4}});
  EXPECT_EQ(region.rows, 5);
  EXPECT_EQ(region.cols, 3);
  for (int64_t r = 0; r < 5; ++r)
    for (int64_t c = 0; c < 3; ++c)
      EXPECT_EQ(&region.row<float>(r)[c], &whole.row<float>(r + 2)[c + 1]);
}

}  // namespace
}  // namespace tandem::test
