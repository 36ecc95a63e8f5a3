// The tokenizer of a model that brings none: every byte is a token.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

class ByteTokenizer {
 public:
  static constexpr int32_t byte_tokens = 256;  // ids from here on are no bytes: end of text etc.

  std::vector<int32_t> encode(std::string_view text) const;
  // Ids that are no bytes come out as their number: "<256>".
  std::string decode(std::span<const int32_t> ids) const;
};

}  // namespace tandem
