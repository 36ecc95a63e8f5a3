// What a Tokenizer is made of. Only the sources of Tokenizer need it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tandem/text/added_tokens.h"
#include "tandem/text/bpe.h"
#include "tandem/text/decoder.h"
#include "tandem/text/normalizer.h"
#include "tandem/text/post_processor.h"
#include "tandem/text/pre_tokenizer.h"
#include "tandem/text/tokenizer.h"
#include "tandem/text/vocabulary.h"

namespace tandem {

class Tokenizer::Parts {
 public:
  Parts(std::string_view json, const std::string& where);

  std::vector<int32_t> encode(std::string_view text, bool add_special) const;
  const text::Vocabulary& vocabulary() const { return vocabulary_; }
  const text::Decoder& decoder() const { return decoder_; }
  bool is_special(int32_t id) const;
  // The token to decode, null for one that gives no text.
  const std::string* shown(int32_t id, bool skip_special) const;

 private:
  struct File;
  class BorrowedSpace;

  explicit Parts(const File& file);
  void add(const text::AddedToken& token, const std::string& where);
  void encode_part(std::string_view part, bool first, text::Bpe::Space& space,
                   std::vector<int32_t>& ids) const;

  text::Vocabulary vocabulary_;
  text::Normalizer normalizer_;
  text::PreTokenizer pre_tokenizer_;
  text::Bpe bpe_;
  text::TokenFinder plain_tokens_;
  text::TokenFinder normalized_tokens_;
  text::Decoder decoder_;
  text::PostProcessor post_processor_;
  std::vector<bool> special_;  // by id
  // Added tokens that the normalizer changes: decoded as they stand in a normalized text.
  std::unordered_map<int32_t, std::string> normalized_forms_;

  // Encoding wants a cache of words, which threads must not share while they use it: each call
  // takes one and brings it back.
  mutable std::mutex spaces_mutex_;
  mutable std::vector<std::unique_ptr<text::Bpe::Space>> spaces_;
};

}  // namespace tandem
