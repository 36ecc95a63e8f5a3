#include "tandem/base/yaml.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <sstream>

namespace tandem {
namespace {

// As RFC 3629 has it: no overlong forms, no surrogates, nothing past U+10FFFF.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || i + length > text.size()) return false;
    uint32_t point = length == 1 ? first : first & (0xffu >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next & 0xc0) != 0x80) return false;
      point = point << 6 | (next & 0x3fu);
    }
    if ((length == 3 && point < 0x800) || (length == 4 && point < 0x10000) ||
        (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
      return false;
    i += length;
  }
  return true;
}

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& where) {
  // yaml-cpp takes any bytes, and writes others in their place.
  if (!is_utf8(text)) throw InputError("{}: is not UTF-8 text", where);
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    throw InputError("{}, line {}: {}", where, error.mark.line + 1, error.msg);
  }
}

std::string read_text(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw InputError("{}: cannot be read", file.string());
  std::stringstream text;
  text << stream.rdbuf();
  return text.str();
}

YamlMap::YamlMap(const YAML::Node& node, std::string where,
                 std::initializer_list<std::string_view> known)
    : node_(node), where_(std::move(where)) {
  if (!node_.IsMap()) throw InputError("{}: expected a map", where_);
  for (const auto& entry : node_) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (std::ranges::find(known, name) == known.end())
      throw InputError("{}: '{}' is not a field (known: {})", where_, name, fmt::join(known, ", "));
  }
}

YAML::Node YamlMap::field(const char* key) const {
  if (!has(key)) throw InputError("{}: '{}' is missing", where_, key);
  return node_[key];
}

YAML::Node YamlMap::list(const char* key) const {
  const YAML::Node node = field(key);
  if (!node.IsSequence()) throw InputError("{}: expected a list", path(key));
  return node;
}

double YamlMap::positive(const char* key) const {
  const auto value = get<double>(key);
  if (!(value > 0) || !std::isfinite(value))
    throw InputError("{}: {} must be above zero", path(key), value);
  return value;
}

double YamlMap::not_negative(const char* key, double otherwise) const {
  const auto value = get<double>(key, otherwise);
  if (!(value >= 0) || !std::isfinite(value))
    throw InputError("{}: {} must be zero or more", path(key), value);
  return value;
}

}  // namespace tandem
