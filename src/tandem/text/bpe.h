// The model of a tokenizer: byte-pair encoding of one piece of text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tandem/text/json_fields.h"
#include "tandem/text/merging.h"
#include "tandem/text/vocabulary.h"
#include "tandem/text/word_cache.h"

namespace tandem::text {

class Bpe {
 public:
  // What a thread needs to encode: taken from call to call, used by one thread at a time.
  struct Space {
    WordCache cache;
    std::vector<int32_t> tokens;
    MergingSpace merging;
  };

  // Reads "model" of tokenizer.json and puts its tokens into `vocabulary`. InputError with `where`
  // in front for what is wrong or not supported. `byte_level`: see PreTokenizer.
  Bpe(const Json& json, const std::string& where, bool byte_level, Vocabulary& vocabulary);

  // Appends the tokens of a piece, which is valid UTF-8.
  void encode(std::string_view piece, Space& space, std::vector<int32_t>& out) const;

 private:
  void read_options(JsonFields& fields);
  void read_vocabulary(const Json& vocab, const std::string& where, Vocabulary& vocabulary);
  void read_merges(const Json& merges, const std::string& where, const Vocabulary& vocabulary);

  void encode_word(std::string_view word, Space& space, std::vector<int32_t>& out) const;
  void start(std::string_view word, std::vector<int32_t>& tokens) const;
  void start_bytes(std::string_view word, std::vector<int32_t>& tokens) const;
  void start_characters(std::string_view word, std::vector<int32_t>& tokens) const;
  size_t next_cut(std::string_view text, size_t from) const;

  bool byte_level_;
  bool byte_fallback_ = false;  // <0x00> to <0xFF> stand for bytes of unknown characters
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;       // a piece that is a token is that token
  bool cut_at_marks_ = false;        // no merge crosses from another character into a '▁'
  int32_t unknown_ = -1;             // token of unknown characters; without it they are left out
  std::array<int32_t, 256> bytes_;   // the token of each byte, in byte level or of the fallback
  std::vector<int32_t> characters_;  // the token of each character, up to the largest that has one
  std::unordered_map<std::string, int32_t> pieces_;  // for ignore_merges
  MergeTable merges_;
};

}  // namespace tandem::text
