// Regular expressions of tokenizer.json: written in Oniguruma's syntax, matched by PCRE2.
//
// What the two write differently is translated; what means something else in each, or is not
// known to mean the same, is refused.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tandem/text/utf8.h"

namespace tandem::text {

// The pattern as PCRE2 writes it; InputError with `where` in front for what cannot be translated.
std::string pcre2_pattern(std::string_view oniguruma, const std::string& where);

class Regex {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // InputError with `where` (file and field) in front.
  Regex(std::string_view oniguruma, const std::string& where);

  // The first match at or after `from`. `text` is valid UTF-8. From any thread.
  std::optional<Match> find(std::string_view text, size_t from) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string where_;
};

// Calls match(begin, end) for each match from the left. An empty match right behind another match
// does not count.
template <class Function>
void for_each_match(const Regex& regex, std::string_view text, Function match) {
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  while (from <= text.size()) {
    const std::optional<Regex::Match> found = regex.find(text, from);
    if (!found) return;
    const bool empty = found->begin == found->end;
    if (!empty || found->end != last_end) match(found->begin, found->end);
    last_end = found->end;
    from = found->end;
    if (empty) from += from < text.size() ? character_bytes(text[from]) : 1;
  }
}

}  // namespace tandem::text
