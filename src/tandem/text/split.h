// Cutting at the matches of a pattern, and what becomes of the matches.
#pragma once

#include <memory>
#include <string>

#include "tandem/text/pre_tokenizer.h"

namespace tandem::text {

enum class SplitBehavior {
  removed,               // matches go
  isolated,              // each match is a piece
  merged_with_previous,  // a match ends the piece before it
  merged_with_next,      // a match begins the piece behind it
  contiguous,            // matches that touch are one piece
};

SplitBehavior split_behavior(JsonFields& fields, std::string_view name);

// `invert`: what lies between the matches is taken for the matches.
std::unique_ptr<PreTokenizerStep> split_at_regex(std::string_view oniguruma,
                                                 const std::string& where, SplitBehavior behavior,
                                                 bool invert = false);
std::unique_ptr<PreTokenizerStep> split_at_string(std::string pattern, SplitBehavior behavior,
                                                  bool invert = false);

}  // namespace tandem::text
