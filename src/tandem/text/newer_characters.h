// Characters of Unicode 15 and 16, which Debian 12's PCRE2 (Unicode 14) does not know and the
// tokenizers package does: emoji of 2022 and later among them.
#pragma once

#include <string_view>

namespace tandem::text {

// Those of a general category ("L", "M", "N", "P" or "S"), as ranges within a class of a PCRE2
// pattern. Empty for other categories. The category's ASCII characters stand before them: in a
// class with ranges PCRE2 finds those in a table, faster than by their property.
std::string_view newer_characters(std::string_view category);

}  // namespace tandem::text
