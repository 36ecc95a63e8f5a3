#include "tandem/model/json_text.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"

namespace tandem {

std::string printable(std::string_view text) {
  constexpr size_t longest = 100;
  std::string out(text.substr(0, longest));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text.size() > longest ? out + "..." : out;
}

std::string json_reason(std::string_view what) {
  const size_t prefix = what.find("] ");
  if (what.starts_with("[json.exception") && prefix != what.npos) what.remove_prefix(prefix + 2);
  return printable(what);
}

nlohmann::json parse_json(std::string_view text, const std::string& where) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    throw InputError("{}: not valid JSON: {}", where, json_reason(e.what()));
  }
}

std::string read_text(const std::filesystem::path& file, int64_t largest_bytes) {
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) {
    throw InputError("{}: is a directory, not a file", file.string());
  }
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be read: {}", file.string(), std::strerror(errno));
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer) || in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (static_cast<int64_t>(text.size()) > largest_bytes) {
      throw InputError("{}: larger than {} bytes", file.string(), largest_bytes);
    }
  }
  if (in.bad()) throw InputError("{}: cannot be read: {}", file.string(), std::strerror(errno));
  return text;
}

}  // namespace tandem
