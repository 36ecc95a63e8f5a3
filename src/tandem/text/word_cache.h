// Tokens of words met before. Most words of a text are few and short, so the cache keeps short
// ones, one for each place, and a new one simply takes the place of an old one. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace tandem::text {

class WordCache {
 public:
  WordCache() : entries_(places) {}

  static bool takes(std::string_view word) { return word.size() <= longest_word; }

  // Appends the tokens of `word` and returns true, or returns false.
  bool find(std::string_view word, std::vector<int32_t>& out) const {
    const Entry& entry = entries_[place(word)];
    if (entry.bytes != word.size() || std::memcmp(entry.word, word.data(), word.size()) != 0) {
      return false;
    }
    out.insert(out.end(), entry.tokens, entry.tokens + entry.count);
    return true;
  }

  void put(std::string_view word, const std::vector<int32_t>& tokens) {
    if (tokens.size() > most_tokens) return;
    Entry& entry = entries_[place(word)];
    entry.bytes = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(tokens.size());
    std::memcpy(entry.word, word.data(), word.size());
    std::copy(tokens.begin(), tokens.end(), entry.tokens);
  }

 private:
  static constexpr size_t places_log2 = 15;
  static constexpr size_t places = size_t{1} << places_log2;
  static constexpr size_t longest_word = 30;
  static constexpr size_t most_tokens = 8;

  struct alignas(64) Entry {  // a cache line
    uint8_t bytes = 0;        // an empty word is never looked for
    uint8_t count = 0;
    char word[longest_word];
    int32_t tokens[most_tokens];
  };

  static size_t place(std::string_view word) {
    uint64_t hash = word.size();
    size_t i = 0;
    for (; i + 8 <= word.size(); i += 8) hash = mix(hash, word.data() + i, 8);
    if (i < word.size()) hash = mix(hash, word.data() + i, word.size() - i);
    return static_cast<size_t>(hash >> (64 - places_log2));
  }
  static uint64_t mix(uint64_t hash, const char* bytes, size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, bytes, count);
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 32;
  }

  std::vector<Entry> entries_;
};

}  // namespace tandem::text
