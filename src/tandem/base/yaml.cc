#include "tandem/base/yaml.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace tandem {

YAML::Node parse_yaml(const std::string& text, const std::string& where) {
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
