#include "tandem/model/byte_tokenizer.h"

#include <fmt/format.h>

#include <iterator>

namespace tandem {

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

std::string ByteTokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const int32_t id : ids) {
    if (id >= 0 && id < byte_tokens) {
      text.push_back(static_cast<char>(id));
    } else {
      fmt::format_to(std::back_inserter(text), "<{}>", id);
    }
  }
  return text;
}

}  // namespace tandem
