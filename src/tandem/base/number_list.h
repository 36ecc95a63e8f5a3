// Numbers with commas between them, as in options and lines of CSV files.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

namespace tandem {

// Nothing where the text is anything else. An empty text is an empty list; a last comma may be
// there.
template <class T>
std::optional<std::vector<T>> parse_numbers(std::string_view text) {
  std::vector<T> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    T value{};
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || (next < end && *next != ',')) return std::nullopt;
    numbers.push_back(value);
    at = next + 1;
  }
  return numbers;
}

}  // namespace tandem
