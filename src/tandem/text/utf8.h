// UTF-8: checking, repairing, and walking over characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tandem::text {

constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

// Length of the valid UTF-8 at the start of `bytes`: all of it, or up to the first byte that
// belongs to no character.
size_t valid_prefix(std::string_view bytes);

// Where bytes end in the middle of a character that more bytes could complete: how many bytes of
// it there are; otherwise 0.
size_t unfinished_suffix(std::string_view bytes);

// Appends `bytes` with U+FFFD in place of what is not UTF-8, one for each longest beginning of a
// character: what Python's decode(errors="replace") and Rust's from_utf8_lossy give.
void append_repaired(std::string& out, std::string_view bytes);

// What follows takes valid UTF-8.
inline size_t character_bytes(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}
char32_t first_character(std::string_view text);  // of a text that is not empty
void append_character(std::string& out, char32_t character);
bool is_space(char32_t character);  // Unicode's White_Space
// Bytes of the white space that `text` begins or ends with.
size_t leading_space(std::string_view text);
size_t trailing_space(std::string_view text);
inline bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

}  // namespace tandem::text
