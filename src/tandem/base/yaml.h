// Reading YAML files that people write. Every complaint is an InputError with the path of the
// field.
#pragma once

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

#include "tandem/base/error.h"

namespace tandem {

YAML::Node parse_yaml(const std::string& text, const std::string& where);
std::string read_text(const std::filesystem::path& file);

// The fields of one map. A field that is not known is refused: it is a slip of the pen, and its
// default would be taken in silence.
class YamlMap {
 public:
  YamlMap(const YAML::Node& node, std::string where, std::initializer_list<std::string_view> known);

  const std::string& where() const { return where_; }
  std::string path(const char* key) const { return where_ + ", " + key; }
  bool has(const char* key) const { return node_[key].IsDefined(); }
  YAML::Node field(const char* key) const;
  YAML::Node list(const char* key) const;  // a field that is a list

  template <class T>
  T get(const char* key) const {
    return convert<T>(field(key), path(key));
  }
  template <class T>
  T get(const char* key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }
  // Numbers that mean something: finite, and above (or at) zero.
  double positive(const char* key) const;
  double not_negative(const char* key, double otherwise) const;

  template <class T>
  static T convert(const YAML::Node& node, const std::string& where) {
    try {
      return node.as<T>();
    } catch (const YAML::Exception&) {
      throw InputError("{}: wrong type of value", where);
    }
  }

 private:
  YAML::Node node_;
  std::string where_;
};

}  // namespace tandem
