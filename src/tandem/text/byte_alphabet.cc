#include "tandem/text/byte_alphabet.h"

#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

constexpr int letters_end = 0x180;  // all letters lie below

struct Alphabet {
  std::array<char32_t, 256> letters{};
  std::array<int16_t, letters_end> bytes{};

  constexpr Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t letter = printable ? static_cast<char32_t>(byte) : next++;
      letters[static_cast<size_t>(byte)] = letter;
      bytes[letter] = static_cast<int16_t>(byte);
    }
  }
};

constexpr Alphabet alphabet;

}  // namespace

char32_t letter_of_byte(uint8_t byte) { return alphabet.letters[byte]; }

std::optional<uint8_t> byte_of_letter(char32_t letter) {
  if (letter >= letters_end || alphabet.bytes[letter] < 0) return std::nullopt;
  return static_cast<uint8_t>(alphabet.bytes[letter]);
}

std::optional<std::string> bytes_of_letters(std::string_view letters) {
  std::string bytes;
  bytes.reserve(letters.size());
  for (; !letters.empty(); letters.remove_prefix(character_bytes(letters[0]))) {
    const std::optional<uint8_t> byte = byte_of_letter(first_character(letters));
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

}  // namespace tandem::text
