#include "tandem/text/pre_tokenizer.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/metaspace.h"
#include "tandem/text/split.h"

namespace tandem::text {

namespace {

constexpr std::string_view gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class PrefixSpace : public PreTokenizerStep {
 public:
  void split(const Piece& piece, PieceSink next) const override {
    if (piece.text.starts_with(' ')) return next(piece);
    std::string text;
    text.reserve(piece.text.size() + 1);
    text.append(" ").append(piece.text);
    next({.text = text, .first = piece.first});
  }
};

std::unique_ptr<PreTokenizerStep> read_split(JsonFields& fields) {
  JsonFields pattern(fields.get("pattern"), fields.where("pattern"));
  const SplitBehavior behavior = split_behavior(fields, "behavior");
  const bool invert = fields.boolean("invert", false);
  std::unique_ptr<PreTokenizerStep> step;
  if (pattern.find("Regex")) {
    step = split_at_regex(pattern.string("Regex"), pattern.where("Regex"), behavior, invert);
  } else {
    const std::string text = pattern.string("String");
    if (text.empty()) pattern.refuse("String", "a string that is not empty");
    step = split_at_string(text, behavior, invert);
  }
  pattern.finish();
  return step;
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json, const std::string& where) {
  if (!json.is_null()) add(json, where, 0);
}

void PreTokenizer::add_byte_level(JsonFields& fields) {
  if (fields.boolean("add_prefix_space")) steps_.push_back(std::make_unique<PrefixSpace>());
  if (fields.boolean("use_regex", true)) {
    steps_.push_back(split_at_regex(gpt2_words, fields.where(), SplitBehavior::isolated));
  }
  fields.ignore({"trim_offsets"});
  byte_level_ = true;
}

void PreTokenizer::add(const Json& json, const std::string& where, int depth) {
  check_depth(depth, where);
  JsonFields fields(json, where);
  const std::string type = fields.string("type");
  // Behind ByteLevel a step would see letters that stand for bytes.
  if (byte_level_) {
    throw InputError("{} \"{}\" behind ByteLevel is not supported", where, printable(type));
  }
  const auto regex = [&](std::string_view pattern, SplitBehavior behavior, bool invert = false) {
    steps_.push_back(split_at_regex(pattern, where, behavior, invert));
  };
  if (type == "Sequence") {
    const Json& list = fields.list("pretokenizers");
    for (size_t i = 0; i < list.size(); ++i) {
      add(list[i], fmt::format("{}[{}]", fields.where("pretokenizers"), i), depth + 1);
    }
  } else if (type == "ByteLevel") {
    add_byte_level(fields);
  } else if (type == "Split") {
    steps_.push_back(read_split(fields));
  } else if (type == "Metaspace") {
    steps_.push_back(metaspace_step(read_metaspace(fields)));
  } else if (type == "Digits") {
    const bool each = fields.boolean("individual_digits");
    regex("\\p{N}", each ? SplitBehavior::isolated : SplitBehavior::contiguous);
  } else if (type == "Punctuation") {
    const bool given = fields.find("behavior") != nullptr;
    regex("[\\p{P}!-/:-@\\[-`{-~]",
          given ? split_behavior(fields, "behavior") : SplitBehavior::isolated);
  } else if (type == "Whitespace") {
    regex(
        "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]+|"
        "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}\\s]+",
        SplitBehavior::removed, true);
  } else if (type == "WhitespaceSplit") {
    regex("\\s", SplitBehavior::removed);
  } else {
    throw InputError("{} \"{}\" is not supported", fields.where("type"), printable(type));
  }
  fields.finish();
}

void PreTokenizer::split_from(size_t step, const Piece& piece, PieceSink sink) const {
  if (step == steps_.size()) return sink(piece);
  auto next = [&](const Piece& part) { split_from(step + 1, part, sink); };
  steps_[step]->split(piece, next);
}

}  // namespace tandem::text
