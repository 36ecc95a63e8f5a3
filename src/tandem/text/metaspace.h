// "Metaspace": spaces written as a visible character, '▁', as SentencePiece does.
#pragma once

#include <memory>
#include <string>

#include "tandem/text/pre_tokenizer.h"

namespace tandem::text {

struct Metaspace {
  enum class Prepend { always, first, never };

  std::string replacement;  // one character
  Prepend prepend = Prepend::always;
  bool split = true;
};

Metaspace read_metaspace(JsonFields& fields);  // a pre-tokenizer or decoder of this type

std::unique_ptr<PreTokenizerStep> metaspace_step(const Metaspace& metaspace);

}  // namespace tandem::text
