// JSON as it comes from strangers: parsed within bounds, and quoted in messages only when made
// safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace tandem {

// Bounds the memory that parsing takes; real files are far smaller.
constexpr int64_t largest_json_bytes = 64 << 20;

// InputError, with `where` in front, for what is not JSON.
nlohmann::json parse_json(std::string_view text, const std::string& where);

// A text file as a whole; InputError naming it where it cannot be read or is too large.
std::string read_text(const std::filesystem::path& file, int64_t largest_bytes);

// What a message may quote: one line of at most 100 printable ASCII characters.
std::string printable(std::string_view text);

// The reason in a parser's message, without the library's prefix.
std::string json_reason(std::string_view what);

}  // namespace tandem
