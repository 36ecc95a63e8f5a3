#include "tandem/text/metaspace.h"

#include "tandem/base/error.h"
#include "tandem/text/split.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

class MetaspaceStep : public PreTokenizerStep {
 public:
  explicit MetaspaceStep(const Metaspace& metaspace)
      : metaspace_(metaspace),
        split_(split_at_string(metaspace.replacement, SplitBehavior::merged_with_next)) {}

  void split(const Piece& piece, PieceSink next) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2);
    const std::string& mark = metaspace_.replacement;
    const bool wanted = metaspace_.prepend == Metaspace::Prepend::always ||
                        (metaspace_.prepend == Metaspace::Prepend::first && piece.first);
    if (wanted && !piece.text.starts_with(' ') && !piece.text.starts_with(mark)) text = mark;
    for (const char c : piece.text) {
      if (c == ' ') {
        text += mark;
      } else {
        text += c;
      }
    }
    const Piece marked{.text = text, .first = piece.first};
    if (metaspace_.split) {
      split_->split(marked, next);
    } else {
      next(marked);
    }
  }

 private:
  Metaspace metaspace_;
  std::unique_ptr<PreTokenizerStep> split_;
};

}  // namespace

Metaspace read_metaspace(JsonFields& fields) {
  Metaspace out;
  out.replacement = fields.string("replacement");
  if (out.replacement.empty() || character_bytes(out.replacement[0]) != out.replacement.size()) {
    fields.refuse("replacement", "one character");
  }
  const bool prefix = fields.boolean("add_prefix_space", true);  // how older files say it
  const std::string scheme = fields.string("prepend_scheme", prefix ? "always" : "never");
  if (scheme == "always") {
    out.prepend = Metaspace::Prepend::always;
  } else if (scheme == "first") {
    out.prepend = Metaspace::Prepend::first;
  } else if (scheme == "never") {
    out.prepend = Metaspace::Prepend::never;
  } else {
    fields.refuse("prepend_scheme", "always, first or never");
  }
  if (!prefix && scheme != "never") {
    fields.refuse("prepend_scheme", "never where add_prefix_space is false");
  }
  out.split = fields.boolean("split", true);
  fields.ignore({"str_rep"});  // the replacement once more, in older files
  return out;
}

std::unique_ptr<PreTokenizerStep> metaspace_step(const Metaspace& metaspace) {
  return std::make_unique<MetaspaceStep>(metaspace);
}

}  // namespace tandem::text
