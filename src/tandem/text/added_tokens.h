// Tokens that are found in a text before anything else is done to it: <|im_start|> and the like.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/text/json_fields.h"
#include "tandem/text/normalizer.h"
#include "tandem/text/vocabulary.h"

namespace tandem::text {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool special = false;      // left out of a text when decoding, if asked to
  bool normalized = false;   // looked for in the normalized text, and normalized itself
  bool single_word = false;  // not beside a letter or digit
  bool left_strip = false;   // takes the white space before it along
  bool right_strip = false;
};

// Reads "added_tokens" of tokenizer.json; `where` is the file and the field.
std::vector<AddedToken> read_added_tokens(const Json& json, const std::string& where);

// Finds tokens in a text: the leftmost, and of those the longest.
class TokenFinder {
 public:
  struct Part {
    std::string_view text;
    size_t begin = 0;                   // in the text searched
    const AddedToken* token = nullptr;  // null: text between tokens
  };

  TokenFinder() = default;
  // `form`: what a token looks like in the text.
  TokenFinder(const std::vector<AddedToken>& tokens,
              const std::function<std::string(const std::string&)>& form);

  // Calls `part` for each token and for what is between them, from the left. `text` is not empty.
  void split(std::string_view text, const std::function<void(const Part&)>& part) const;

 private:
  // A trie of bytes: the children of a node are a list.
  struct Node {
    char byte = 0;
    int32_t child = -1;
    int32_t sibling = -1;
    int32_t token = -1;  // in tokens_, of the text that ends here
  };

  void add(std::string_view text, int32_t token);
  int32_t child(int32_t node, char byte) const;
  // The longest token that `text` begins with: its place in tokens_, or -1.
  int32_t longest(std::string_view text, size_t& bytes) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<int32_t, 256> roots_;
};

}  // namespace tandem::text
