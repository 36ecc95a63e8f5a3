// The byte-level alphabet of GPT-2: a printable character for each byte, in which byte-level
// vocabularies are written. Printable bytes are themselves; the others are U+0100 and on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::text {

char32_t letter_of_byte(uint8_t byte);
std::optional<uint8_t> byte_of_letter(char32_t letter);

// The bytes that a text in the alphabet stands for; nothing where it has other characters.
std::optional<std::string> bytes_of_letters(std::string_view letters);

}  // namespace tandem::text
