// The fixtures that make_fixtures.py wrote.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

namespace tandem {

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(TANDEM_SOURCE_DIR) / "tests/text/fixtures" / name;
}

inline std::string fixture_text(const std::string& name) {
  std::ifstream in(fixture(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline nlohmann::json fixture_json(const std::string& name) {
  return nlohmann::json::parse(fixture_text(name));
}

}  // namespace tandem
