// The tokens of a tokenizer by their text and by their id.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tandem::text {

class Vocabulary {
 public:
  // `most_tokens` bounds the ids, so that a stray one takes no memory.
  Vocabulary(size_t most_tokens, std::string where)
      : most_tokens_(most_tokens), where_(std::move(where)) {}

  // InputError where the token or the id is there already, or the id leaves a gap for certain.
  void add(std::string token, int32_t id);
  // InputError where an id below the largest belongs to no token.
  void check_complete() const;

  int32_t size() const { return static_cast<int32_t>(by_id_.size()); }
  int32_t find(std::string_view token) const;  // -1 where there is none
  // null where there is none
  const std::string* token(int32_t id) const {
    return id >= 0 && id < size() ? by_id_[static_cast<size_t>(id)] : nullptr;
  }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  size_t most_tokens_;
  std::string where_;
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> by_token_;
  std::vector<const std::string*> by_id_;  // of the keys of by_token_, which stay in place
};

}  // namespace tandem::text
