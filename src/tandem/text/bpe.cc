#include "tandem/text/bpe.h"

#include "tandem/base/error.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

constexpr std::string_view mark = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr size_t longest_word = size_t{1} << 30;   // places in a word are 32-bit numbers

// Unknown characters: each one token, or one for each run of them.
class UnknownRun {
 public:
  UnknownRun(int32_t token, bool fuse, std::vector<int32_t>& out)
      : token_(token), fuse_(fuse), out_(out) {}

  void add() {
    if (token_ < 0) return;
    if (pending_ && !fuse_) out_.push_back(token_);
    pending_ = true;
  }
  void end() {
    if (pending_) out_.push_back(token_);
    pending_ = false;
  }

 private:
  int32_t token_;
  bool fuse_;
  bool pending_ = false;
  std::vector<int32_t>& out_;
};

}  // namespace

void Bpe::encode(std::string_view piece, Space& space, std::vector<int32_t>& out) const {
  if (ignore_merges_ && !piece.empty()) {
    if (WordCache::takes(piece) && space.cache.find(piece, out)) return;
    const auto it = pieces_.find(std::string(piece));
    if (it != pieces_.end()) {
      out.push_back(it->second);
      if (WordCache::takes(piece)) space.cache.put(piece, {it->second});
      return;
    }
  }
  for (size_t begin = 0; begin < piece.size();) {
    const size_t end = cut_at_marks_ ? next_cut(piece, begin) : piece.size();
    encode_word(piece.substr(begin, end - begin), space, out);
    begin = end;
  }
}

// Cuts that no merge crosses change nothing, and make words that the cache knows of what may be a
// whole text: SentencePiece's models have no pre-tokenizer.
size_t Bpe::next_cut(std::string_view text, size_t from) const {
  size_t at = from;
  while (text.substr(at).starts_with(mark)) at += mark.size();
  return std::min(text.find(mark, at), text.size());
}

void Bpe::encode_word(std::string_view word, Space& space, std::vector<int32_t>& out) const {
  const bool cached = WordCache::takes(word);
  if (cached && space.cache.find(word, out)) return;
  if (word.size() > longest_word) {
    throw InputError("a text of {} bytes with no place to cut is too long to tokenize",
                     word.size());
  }
  space.tokens.clear();
  start(word, space.tokens);
  merge_word(merges_, space.tokens, space.merging);
  if (cached) space.cache.put(word, space.tokens);
  out.insert(out.end(), space.tokens.begin(), space.tokens.end());
}

void Bpe::start(std::string_view word, std::vector<int32_t>& tokens) const {
  if (byte_level_) {
    start_bytes(word, tokens);
  } else {
    start_characters(word, tokens);
  }
}

void Bpe::start_bytes(std::string_view word, std::vector<int32_t>& tokens) const {
  UnknownRun unknown(unknown_, fuse_unknown_, tokens);
  for (const char c : word) {
    const int32_t token = bytes_[static_cast<unsigned char>(c)];
    if (token < 0) {
      unknown.add();
    } else {
      unknown.end();
      tokens.push_back(token);
    }
  }
  unknown.end();
}

void Bpe::start_characters(std::string_view word, std::vector<int32_t>& tokens) const {
  UnknownRun unknown(unknown_, fuse_unknown_, tokens);
  for (; !word.empty(); word.remove_prefix(character_bytes(word[0]))) {
    const char32_t character = first_character(word);
    const int32_t token = character < characters_.size() ? characters_[character] : -1;
    if (token >= 0) {
      unknown.end();
      tokens.push_back(token);
      continue;
    }
    const std::string_view bytes = word.substr(0, character_bytes(word[0]));
    bool all = byte_fallback_;
    for (const char c : bytes) all = all && bytes_[static_cast<unsigned char>(c)] >= 0;
    if (all) {
      for (const char c : bytes) tokens.push_back(bytes_[static_cast<unsigned char>(c)]);
    } else {
      unknown.add();
    }
  }
  unknown.end();
}

}  // namespace tandem::text
