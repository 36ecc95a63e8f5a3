// Oniguruma's syntax, in its Ruby flavour, to that of PCRE2 with UTF and UCP.
#include <fmt/format.h>

#include "tandem/base/error.h"
#include "tandem/text/newer_characters.h"
#include "tandem/text/regex.h"

namespace tandem::text {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class Translation {
 public:
  Translation(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string run() {
    if (valid_prefix(pattern_) != pattern_.size()) refuse("text that is not UTF-8");
    while (at_ < pattern_.size()) piece();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw InputError("{}: regular expression with {} at byte {} is not supported", where_, what,
                     at_);
  }
  bool follows(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  void copy(size_t bytes) {
    out_.append(pattern_.substr(at_, bytes));
    at_ += bytes;
  }
  void replace(size_t bytes, std::string_view by) {
    out_.append(by);
    at_ += bytes;
  }

  void piece() {
    switch (pattern_[at_]) {
      case '\\':
        return escape(false);
      case '[':
        return character_class();
      case '(':
        return group();
      case '{':
        return interval();
      case '^':  // of every line, in Ruby's flavour
        return replace(1, "(?m:^)");
      case '$':
        return replace(1, "(?m:$)");
      default:
        return copy(1);
    }
  }

  void escape(bool in_class) {
    if (at_ + 1 == pattern_.size()) refuse("a lone \\");
    const char c = pattern_[at_ + 1];
    switch (c) {
      // Oniguruma's own sets: PCRE2 counts U+180E as space and no marks as parts of words.
      case 's':
        return replace(2, "\\p{White_Space}");
      case 'S':
        return replace(2, "\\P{White_Space}");
      case 'd':
        return replace(2, "\\p{Nd}");
      case 'D':
        return replace(2, "\\P{Nd}");
      case 'w':
        return replace(2, in_class ? "\\p{L}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'W':
        if (in_class) refuse("\\W in a class");
        return replace(2, "[^\\p{L}\\p{M}\\p{Nd}\\p{Pc}]");
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        return copy(2);
      case 'v':
        return replace(2, "\\x0B");
      case 'A':
      case 'z':
        if (in_class) refuse(fmt::format("\\{} in a class", c));
        return copy(2);
      case 'p':
      case 'P':
        return property(in_class);
      case 'x':
      case 'u':
        return code_point();
      default:
        if (is_letter(c) || is_digit(c)) refuse(fmt::format("\\{}", c));
        // A character that stands for itself; of a long one the rest follows as it is.
        if (static_cast<unsigned char>(c) >= 0x80) return replace(1, "");
        return copy(2);
    }
  }

  void property(bool in_class) {
    const size_t end = pattern_.find('}', at_);
    if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || end == pattern_.npos) {
      refuse("\\p without {name}");
    }
    const std::string_view newer = newer_characters(pattern_.substr(at_ + 3, end - at_ - 3));
    const bool negated = pattern_[at_ + 1] == 'P';
    if (newer.empty() || (in_class && negated)) return copy(end + 1 - at_);
    const std::string set = fmt::format("\\p{}{}", pattern_.substr(at_ + 2, end - at_ - 1), newer);
    replace(end + 1 - at_, in_class ? set : fmt::format("[{}{}]", negated ? "^" : "", set));
  }

  void code_point() {
    const bool braces = follows("\\x{");
    const size_t begin = at_ + (braces ? 3 : 2);
    const size_t longest = braces ? 8 : follows("\\u") ? 4 : 2;
    size_t end = begin;
    while (end < pattern_.size() && end - begin < longest && is_hex(pattern_[end])) ++end;
    const std::string_view digits = pattern_.substr(begin, end - begin);
    // \x80 and above are bytes to Oniguruma, not characters.
    const bool byte = !braces && longest == 2 && digits.size() == 2 && digits[0] > '7';
    const bool whole = braces ? end < pattern_.size() && pattern_[end] == '}' && !digits.empty()
                              : digits.size() == longest;
    if (!whole || byte) refuse("this \\x or \\u");
    const std::string code = fmt::format("\\x{{{}}}", digits);
    replace(end + (braces ? 1 : 0) - at_, code);
  }

  void character_class() {
    copy(1);
    if (follows("^")) copy(1);
    if (follows("]")) refuse("] first in a class");
    while (!follows("]")) {
      if (at_ == pattern_.size()) refuse("a class without end");
      if (follows("[")) refuse("a class in a class");
      if (follows("&&")) refuse("&& in a class");
      if (follows("\\")) {
        escape(true);
      } else {
        copy(1);
      }
    }
    copy(1);
  }

  void group() {
    if (follows("(*")) refuse("(*");
    if (!follows("(?")) return copy(1);
    for (const std::string_view known : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
      if (follows(known)) return copy(known.size());
    }
    // Elsewhere Oniguruma lets it reach over the alternatives that follow.
    if (at_ == 0 && follows("(?i)")) return copy(4);
    refuse("this (?");
  }

  void interval() {
    const size_t close = pattern_.find('}', at_);
    const std::string_view inside =
        close == pattern_.npos ? "" : pattern_.substr(at_ + 1, close - at_ - 1);
    const size_t comma = inside.find(',');
    const std::string_view low = inside.substr(0, comma);
    const std::string_view high = comma == inside.npos ? "" : inside.substr(comma + 1);
    const auto number = [](std::string_view text) {
      for (const char c : text) {
        if (!is_digit(c)) return false;
      }
      return text.size() <= 5;
    };
    if (!number(low) || !number(high) || (low.empty() && high.empty())) return replace(1, "\\{");
    const char next = close + 1 < pattern_.size() ? pattern_[close + 1] : '\0';
    if (next == '+') refuse("{...}+");  // not possessive, unlike in PCRE2
    if (next == '?' && comma == inside.npos) refuse("{n}?");
    replace(close + 1 - at_, fmt::format("{{{}{}{}}}", low.empty() ? "0" : low,
                                         comma == inside.npos ? "" : ",", high));
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string pcre2_pattern(std::string_view oniguruma, const std::string& where) {
  return Translation(oniguruma, where).run();
}

}  // namespace tandem::text
