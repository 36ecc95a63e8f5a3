// A Bpe from the "model" of tokenizer.json.
#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/bpe.h"
#include "tandem/text/byte_alphabet.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

constexpr char32_t mark_code_point = 0x2581;

char32_t last_character(std::string_view text) {
  size_t begin = text.size() - 1;
  while (continues_character(text[begin])) --begin;
  return first_character(text.substr(begin));
}

struct Pair {
  std::string left;
  std::string right;
};

// "a b", or ["a", "b"] where tokens may have spaces.
Pair read_pair(const Json& merge, const std::string& where, size_t index) {
  Pair pair;
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    pair = {merge[0].get<std::string>(), merge[1].get<std::string>()};
  } else if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) {
      pair = {text.substr(0, space), text.substr(space + 1)};
    }
  }
  if (pair.left.empty() || pair.right.empty()) {
    throw InputError("{}[{}] must be two tokens, not {}", where, index,
                     printable(merge.dump(-1, ' ', true, Json::error_handler_t::replace)));
  }
  return pair;
}

}  // namespace

Bpe::Bpe(const Json& json, const std::string& where, bool byte_level, Vocabulary& vocabulary)
    : byte_level_(byte_level) {
  bytes_.fill(-1);
  JsonFields fields(json, where);
  if (const std::string type = fields.string("type", "BPE"); type != "BPE") {
    throw InputError("{} \"{}\" is not supported, only BPE", fields.where("type"), printable(type));
  }
  read_options(fields);
  read_vocabulary(fields.object("vocab"), fields.where("vocab"), vocabulary);
  if (fields.find("unk_token")) {
    const std::string unknown = fields.string("unk_token");
    unknown_ = vocabulary.find(unknown);
    if (unknown_ < 0) fields.refuse("unk_token", "a token of the vocabulary");
  }
  read_merges(fields.list("merges"), fields.where("merges"), vocabulary);
  fields.finish();
}

void Bpe::read_options(JsonFields& fields) {
  const Json* dropout = fields.find("dropout");
  if (dropout && *dropout != 0.0) fields.refuse("dropout", "null: it draws random tokens");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!fields.string(affix, "").empty()) fields.refuse(affix, "null or empty");
  }
  fuse_unknown_ = fields.boolean("fuse_unk", false);
  byte_fallback_ = fields.boolean("byte_fallback", false);
  ignore_merges_ = fields.boolean("ignore_merges", false);
  if (byte_fallback_ && byte_level_) {
    fields.refuse("byte_fallback", "false with the pre-tokenizer ByteLevel");
  }
}

void Bpe::read_vocabulary(const Json& vocab, const std::string& where, Vocabulary& vocabulary) {
  for (const auto& [token, value] : vocab.items()) {
    const int32_t id = token_id(value, fmt::format("{}.{}", where, printable(token)));
    vocabulary.add(token, id);
    // What the model compares with a piece: its bytes, which are letters in a byte-level token.
    std::string piece = token;
    if (byte_level_) {
      std::optional<std::string> bytes = bytes_of_letters(token);
      if (!bytes) continue;  // such as <|endoftext|>: no piece is ever written so
      piece = *std::move(bytes);
      if (piece.size() == 1) bytes_[static_cast<unsigned char>(piece[0])] = id;
    } else if (!piece.empty() && character_bytes(piece[0]) == piece.size()) {
      const char32_t character = first_character(piece);
      if (character >= characters_.size()) characters_.resize(character + 1, -1);
      characters_[character] = id;
    }
    if (ignore_merges_) pieces_.emplace(std::move(piece), id);
  }
  if (byte_fallback_) {
    for (size_t byte = 0; byte < bytes_.size(); ++byte) {
      bytes_[byte] = vocabulary.find(fmt::format("<0x{:02X}>", byte));
    }
  }
}

void Bpe::read_merges(const Json& merges, const std::string& where, const Vocabulary& vocabulary) {
  merges_ = MergeTable(merges.size());
  cut_at_marks_ =
      !byte_level_ && mark_code_point < characters_.size() && characters_[mark_code_point] >= 0;
  for (size_t i = 0; i < merges.size(); ++i) {
    if (i == 0 && merges[i].is_string() && merges[i].get<std::string>().starts_with("#version")) {
      continue;  // the first line of a merges.txt
    }
    const Pair pair = read_pair(merges[i], where, i);
    const auto known = [&](const std::string& token) {
      const int32_t id = vocabulary.find(token);
      if (id >= 0) return id;
      throw InputError("{}[{}]: token \"{}\" is not in the vocabulary", where, i, printable(token));
    };
    const int32_t left = known(pair.left);
    const int32_t right = known(pair.right);
    const int32_t whole = known(pair.left + pair.right);
    merges_.add(left, right, {.rank = static_cast<uint32_t>(i), .token = whole});
    if (cut_at_marks_ && first_character(pair.right) == mark_code_point &&
        last_character(pair.left) != mark_code_point) {
      cut_at_marks_ = false;
    }
  }
}

}  // namespace tandem::text
