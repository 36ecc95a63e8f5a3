#include "tandem/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace tandem::text {

namespace {

struct Step {
  size_t bytes = 0;       // of the longest beginning of a character, at least one
  bool complete = false;  // it is a whole character
  bool cut_off = false;   // the text ended before the character did
};

// The table of well-formed sequences of the Unicode standard (table 3-7).
Step read_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return {.bytes = 1, .complete = true};
  size_t length = 0;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {.bytes = 1};
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {.bytes = i, .cut_off = true};
    if (byte(i) < low || byte(i) > high) return {.bytes = i};
    low = 0x80;
    high = 0xBF;
  }
  return {.bytes = length, .complete = true};
}

size_t ascii_prefix(std::string_view text) {
  size_t i = 0;
  for (; i + sizeof(uint64_t) <= text.size(); i += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, text.data() + i, sizeof word);
    if (word & 0x8080808080808080u) break;
  }
  while (i < text.size() && static_cast<unsigned char>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

size_t valid_prefix(std::string_view bytes) {
  size_t i = 0;
  while (true) {
    i += ascii_prefix(bytes.substr(i));
    if (i == bytes.size()) return i;
    const Step step = read_character(bytes.substr(i));
    if (!step.complete) return i;
    i += step.bytes;
  }
}

size_t unfinished_suffix(std::string_view bytes) {
  for (size_t n = 1; n <= 3 && n <= bytes.size(); ++n) {
    const std::string_view tail = bytes.substr(bytes.size() - n);
    if (continues_character(tail[0])) continue;
    const Step step = read_character(tail);
    return step.cut_off ? n : 0;
  }
  return 0;
}

void append_repaired(std::string& out, std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t valid = valid_prefix(bytes);
    out.append(bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) return;
    out.append(replacement_character);
    bytes.remove_prefix(read_character(bytes).bytes);
  }
}

char32_t first_character(std::string_view text) {
  const auto byte = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  switch (character_bytes(text[0])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
             (byte(3) & 0x3F);
  }
}

void append_character(std::string& out, char32_t character) {
  const auto put = [&](char32_t bits) { out.push_back(static_cast<char>(bits)); };
  if (character < 0x80) return put(character);
  if (character < 0x800) {
    put(0xC0 | character >> 6);
  } else {
    if (character < 0x10000) {
      put(0xE0 | character >> 12);
    } else {
      put(0xF0 | character >> 18);
      put(0x80 | (character >> 12 & 0x3F));
    }
    put(0x80 | (character >> 6 & 0x3F));
  }
  put(0x80 | (character & 0x3F));
}

bool is_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

size_t leading_space(std::string_view text) {
  size_t i = 0;
  while (i < text.size() && is_space(first_character(text.substr(i))))
    i += character_bytes(text[i]);
  return i;
}

size_t trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (continues_character(text[begin])) --begin;
    if (!is_space(first_character(text.substr(begin)))) break;
    end = begin;
  }
  return text.size() - end;
}

}  // namespace tandem::text
