// Reading the header of a safetensors file, which may come from anybody.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/model/safetensors.h"

namespace tandem {

namespace {

using Json = nlohmann::json;

constexpr size_t length_bytes = 8;
constexpr uint64_t largest_header = 100'000'000;  // as in the reference implementation
constexpr size_t most_dimensions = 16;

struct TypeRow {
  StoredType type;
  int64_t bytes;
  std::string_view name;
};

constexpr TypeRow types[] = {
    {StoredType::f64, 8, "F64"},         {StoredType::f32, 4, "F32"},
    {StoredType::f16, 2, "F16"},         {StoredType::bf16, 2, "BF16"},
    {StoredType::f8_e4m3, 1, "F8_E4M3"}, {StoredType::f8_e5m2, 1, "F8_E5M2"},
    {StoredType::i64, 8, "I64"},         {StoredType::i32, 4, "I32"},
    {StoredType::i16, 2, "I16"},         {StoredType::i8, 1, "I8"},
    {StoredType::u64, 8, "U64"},         {StoredType::u32, 4, "U32"},
    {StoredType::u16, 2, "U16"},         {StoredType::u8, 1, "U8"},
    {StoredType::boolean, 1, "BOOL"},
};

const TypeRow& row_of(StoredType type) { return types[static_cast<size_t>(type)]; }

constexpr bool rows_follow_the_enum() {
  for (size_t i = 0; i < std::size(types); ++i) {
    if (static_cast<size_t>(types[i].type) != i) return false;
  }
  return true;
}
static_assert(rows_follow_the_enum());

// Takes the header as the parser meets it, so that nothing is stored that the format has no place
// for and a name that comes twice is seen. The only shapes allowed are
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [1], "data_offsets": [0,
//   4]}}
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  explicit HeaderReader(const std::string& where) : where_(where) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool start_object(size_t) override {
    if (depth_ == 0) {
      depth_ = 1;
    } else if (depth_ == 1 && in_metadata()) {
      depth_ = 2;
    } else if (depth_ == 1) {
      depth_ = 2;
      fields_ = {};
      offset_count_ = 0;
      header_.tensors.push_back({.name = name_});
    } else {
      refuse("an object where none belongs");
    }
    return true;
  }

  bool key(string_t& text) override {
    if (depth_ == 1) {
      if (!names_.insert(text).second) {
        throw InputError("{}: tensor {} is there twice", where_, printable(text));
      }
      name_ = text;
    } else if (in_metadata()) {
      key_ = text;
    } else {
      key_ = text;
      const size_t field = field_index();
      if (field == fields_.size()) refuse("an unknown field");
      if (std::exchange(fields_[field], true)) refuse("a field that is there twice");
    }
    return true;
  }

  bool string(string_t& text) override {
    if (depth_ == 2 && in_metadata()) {
      header_.metadata[key_] = text;
    } else if (depth_ == 2 && key_ == "dtype") {
      const std::optional<StoredType> type = stored_type(text);
      if (!type) {
        throw InputError("{}: tensor {}: dtype {} is unknown", where_, printable(name_),
                         printable(text));
      }
      header_.tensors.back().dtype = *type;
    } else {
      refuse("a string where none belongs");
    }
    return true;
  }

  bool start_array(size_t) override {
    if (depth_ != 2 || in_metadata() || key_ == "dtype") refuse("a list where none belongs");
    depth_ = 3;
    return true;
  }
  bool end_array() override {
    depth_ = 2;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 3) refuse("a number where none belongs");
    if (value > uint64_t{INT64_MAX}) refuse("a number that is too large");
    StoredTensor& tensor = header_.tensors.back();
    const int64_t number = static_cast<int64_t>(value);
    if (key_ == "shape") {
      if (tensor.shape.size() == most_dimensions) refuse("more than 16 dimensions");
      tensor.shape.push_back(number);
    } else {
      if (offset_count_ == 2) refuse("more than two offsets");
      (offset_count_++ == 0 ? tensor.bytes.begin : tensor.bytes.end) = number;
    }
    return true;
  }

  bool end_object() override {
    if (depth_ == 2 && !in_metadata()) {
      for (size_t i = 0; i < fields_.size(); ++i) {
        if (!fields_[i]) {
          throw InputError("{}: tensor {}: {} is missing", where_, printable(name_),
                           field_names[i]);
        }
      }
      if (offset_count_ != 2) refuse("fewer than two offsets");
    }
    --depth_;
    return true;
  }

  bool number_integer(number_integer_t) override { refuse("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { refuse("a fraction"); }
  bool null() override { refuse("null"); }
  bool boolean(bool) override { refuse("a boolean"); }
  bool binary(binary_t&) override { refuse("binary data"); }
  bool parse_error(size_t, const std::string&, const Json::exception& e) override {
    throw InputError("{}: the header is not valid JSON: {}", where_, json_reason(e.what()));
  }

 private:
  static constexpr std::array<std::string_view, 3> field_names = {"dtype", "shape", "data_offsets"};

  bool in_metadata() const { return name_ == "__metadata__"; }
  size_t field_index() const {
    return static_cast<size_t>(std::find(field_names.begin(), field_names.end(), key_) -
                               field_names.begin());
  }

  [[noreturn]] void refuse(std::string_view what) const {
    if (depth_ == 0) throw InputError("{}: the header is not a JSON object", where_);
    throw InputError("{}: {}{}: {}{}{}", where_, in_metadata() ? "" : "tensor ", printable(name_),
                     depth_ > 1 ? printable(key_) : "", depth_ > 1 ? ": " : "", what);
  }

  const std::string& where_;
  SafetensorsHeader header_;
  std::unordered_set<std::string> names_;
  int depth_ = 0;
  std::string name_;              // the key at depth 1
  std::string key_;               // the key at depth 2
  std::array<bool, 3> fields_{};  // which of field_names this tensor had
  int offset_count_ = 0;
};

// The header's length, once it is known to fit into the file.
uint64_t header_length(std::span<const std::byte> file, const std::string& where) {
  static_assert(std::endian::native == std::endian::little);
  if (file.size() < length_bytes) {
    throw InputError("{}: {} bytes are too few for a safetensors file", where, file.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, file.data(), length_bytes);
  if (length > largest_header) {
    throw InputError("{}: header length {} is more than {}: not a safetensors file?", where, length,
                     largest_header);
  }
  if (length > file.size() - length_bytes) {
    throw InputError("{}: header length {} is more than the file's {} bytes: cut short?", where,
                     length, file.size());
  }
  return length;
}

void check_size(const StoredTensor& tensor, int64_t data_bytes, const std::string& where) {
  const auto [begin, end] = tensor.bytes;
  if (begin > end || end > data_bytes) {
    throw InputError("{}: tensor {}: data_offsets {}..{} are not within the {} bytes of data{}",
                     where, printable(tensor.name), begin, end, data_bytes,
                     begin <= end ? ": cut short?" : "");
  }
  int64_t bytes = size_of(tensor.dtype);
  for (const int64_t n : tensor.shape) {
    if (__builtin_mul_overflow(bytes, n, &bytes)) {
      throw InputError("{}: tensor {}: shape is too large", where, printable(tensor.name));
    }
  }
  if (bytes != tensor.bytes.size()) {
    throw InputError("{}: tensor {}: {} of its shape take {} bytes, but data_offsets span {}",
                     where, printable(tensor.name), stored_type_name(tensor.dtype), bytes,
                     tensor.bytes.size());
  }
}

// The format allows neither overlaps nor bytes of no tensor.
void check_cover(const std::vector<StoredTensor>& tensors, int64_t data_bytes,
                 const std::string& where) {
  int64_t covered = 0;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.bytes.begin != covered) {
      throw InputError("{}: tensor {}: data starts at {}, but the tensor before ends at {}: {}",
                       where, printable(tensor.name), tensor.bytes.begin, covered,
                       tensor.bytes.begin < covered ? "they overlap" : "there is a hole");
    }
    covered = tensor.bytes.end;
  }
  if (covered != data_bytes) {
    throw InputError("{}: the tensors end at byte {} of {} bytes of data", where, covered,
                     data_bytes);
  }
}

}  // namespace

std::string_view stored_type_name(StoredType type) { return row_of(type).name; }

int64_t size_of(StoredType type) { return row_of(type).bytes; }

std::optional<StoredType> stored_type(std::string_view name) {
  for (const TypeRow& row : types) {
    if (row.name == name) return row.type;
  }
  return std::nullopt;
}

int64_t StoredTensor::elements() const { return bytes.size() / size_of(dtype); }

SafetensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  const uint64_t length = header_length(file, where);
  const char* text = reinterpret_cast<const char*>(file.data() + length_bytes);
  if (length == 0 || text[0] != '{') {
    throw InputError("{}: the header is not a JSON object", where);
  }
  HeaderReader reader(where);
  Json::sax_parse(text, text + length, &reader);
  SafetensorsHeader header = reader.take();

  header.data_offset = static_cast<int64_t>(length_bytes + length);
  const int64_t data_bytes = static_cast<int64_t>(file.size()) - header.data_offset;
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              return std::tie(a.bytes, a.name) < std::tie(b.bytes, b.name);
            });
  for (StoredTensor& tensor : header.tensors) {
    check_size(tensor, data_bytes, where);
    tensor.data = file.data() + header.data_offset + tensor.bytes.begin;
  }
  check_cover(header.tensors, data_bytes, where);
  return header;
}

}  // namespace tandem
