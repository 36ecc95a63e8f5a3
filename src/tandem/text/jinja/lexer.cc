#include "tandem/text/jinja/lexer.h"

#include <algorithm>
#include <cctype>

#include "tandem/base/error.h"

namespace tandem::text::jinja {

namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_name(char c) { return c == '_' || std::isalnum(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  Lexer(std::string_view source, const std::string& name) : source_(source), name_(name) {}

  std::vector<Token> run() {
    if (source_.ends_with('\n')) source_.remove_suffix(1);  // Jinja keeps no last line end
    while (at_ < source_.size()) {
      text();
      if (at_ < source_.size()) tag();
    }
    put(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) {
    throw InputError("{}: line {}: {}", name_, line(), what);
  }
  // The line of at_, counted on from the last time.
  int line() {
    const std::string_view passed = source_.substr(counted_, at_ - counted_);
    counted_line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    counted_ = at_;
    return counted_line_;
  }
  bool follows(std::string_view text) const { return source_.substr(at_).starts_with(text); }
  void put(Token::Kind kind, std::string_view value) {
    tokens_.push_back({kind, std::string(value), line_});
  }

  void text() {
    size_t end = at_;
    while (end < source_.size() && source_.substr(end, 2) != "{{" &&
           source_.substr(end, 2) != "{%" && source_.substr(end, 2) != "{#") {
      ++end;
    }
    std::string_view text = source_.substr(at_, end - at_);
    const bool line_start = at_ == 0 || after_newline_;
    const char kind = end + 1 < source_.size() ? source_[end + 1] : '\0';
    const char sign = end + 2 < source_.size() ? source_[end + 2] : '\0';
    if (trim_) {
      while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    }
    if (kind != '\0' && sign == '-') {
      while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    } else if ((kind == '%' || kind == '#') && sign != '+') {
      strip_line(text, line_start);
    }
    if (!text.empty()) put(Token::Kind::text, text);
    at_ = end;
  }

  // White space between the start of a line and a block goes.
  static void strip_line(std::string_view& text, bool line_start) {
    size_t begin = text.size();
    while (begin > 0 && (text[begin - 1] == ' ' || text[begin - 1] == '\t')) --begin;
    if (begin > 0 ? text[begin - 1] == '\n' : line_start) text = text.substr(0, begin);
  }

  void tag() {
    const char kind = source_[at_ + 1];
    line_ = line();
    const size_t begin = at_;
    at_ += 2;
    if (follows("-") || follows("+")) ++at_;
    if (kind == '#') {
      const size_t end = source_.find("#}", at_);
      if (end == source_.npos) refuse("a comment without end");
      at_ = end + 2;
      return close(kind, end > begin + 2 && source_[end - 1] == '-');
    }
    const bool print = kind == '{';
    put(print ? Token::Kind::print_begin : Token::Kind::block_begin, "");
    const std::string_view end = print ? "}}" : "%}";
    int open = 0;
    while (true) {
      while (at_ < source_.size() && is_space(source_[at_])) ++at_;
      if (at_ >= source_.size()) refuse("a tag without end");
      line_ = line();
      // "-%}" takes the white space behind the tag, "+%}" leaves even the end of the line.
      const char sign = follows("-") || follows("+") ? source_[at_] : '\0';
      const bool signed_end = sign != '\0' && source_.substr(at_ + 1).starts_with(end);
      if (open == 0 && (signed_end || follows(end))) {
        put(print ? Token::Kind::print_end : Token::Kind::block_end, "");
        at_ += end.size() + (signed_end ? 1 : 0);
        return close(signed_end && sign == '+' ? '{' : kind, signed_end && sign == '-');
      }
      const char c = source_[at_];
      if (c == '{' || c == '[' || c == '(') ++open;
      if (c == '}' || c == ']' || c == ')') --open;
      token();
    }
  }

  // Behind a tag: `-` takes all white space, and blocks take the end of their line.
  void close(char kind, bool dash) {
    trim_ = dash;
    after_newline_ = false;
    if (!dash && kind != '{' && follows("\n")) {
      ++at_;
      after_newline_ = true;
    }
  }

  void token() {
    const char c = source_[at_];
    size_t end = at_ + 1;
    if (c == '"' || c == '\'') return string(c);
    if (is_digit(c)) return number();
    if (is_name(c)) {
      while (end < source_.size() && is_name(source_[end])) ++end;
      put(Token::Kind::name, source_.substr(at_, end - at_));
    } else {
      for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
        if (follows(two)) end = at_ + 2;
      }
      if (std::string_view("=!<>/*+-~%|.,:()[]{}").find(c) == std::string_view::npos) {
        refuse("an unexpected character");
      }
      put(Token::Kind::sign, source_.substr(at_, end - at_));
    }
    at_ = end;
  }

  void number() {
    size_t end = at_;
    const auto digits = [&] {
      while (end < source_.size() && is_digit(source_[end])) ++end;
    };
    const auto digit_at = [&](size_t i) { return i < source_.size() && is_digit(source_[i]); };
    digits();
    bool real = false;
    if (source_.substr(end).starts_with('.') && digit_at(end + 1)) {
      real = true;
      ++end;
      digits();
    }
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      const size_t sign =
          source_.substr(end + 1).starts_with('-') || source_.substr(end + 1).starts_with('+') ? 1
                                                                                               : 0;
      if (digit_at(end + 1 + sign)) {
        real = true;
        end += 1 + sign;
        digits();
      }
    }
    put(real ? Token::Kind::real : Token::Kind::integer, source_.substr(at_, end - at_));
    at_ = end;
  }

  void string(char quote) {
    std::string value;
    for (++at_; at_ < source_.size() && source_[at_] != quote; ++at_) {
      if (source_[at_] != '\\' || at_ + 1 == source_.size()) {
        value += source_[at_];
        continue;
      }
      const char c = source_[++at_];
      switch (c) {
        case 'n':
          value += '\n';
          break;
        case 't':
          value += '\t';
          break;
        case 'r':
          value += '\r';
          break;
        case '\\':
        case '\'':
        case '"':
          value += c;
          break;
        default:
          refuse("an escape in a string that is not supported");
      }
    }
    if (at_ >= source_.size()) refuse("a string without end");
    ++at_;
    put(Token::Kind::string, value);
  }

  std::string_view source_;
  const std::string& name_;
  size_t at_ = 0;
  int line_ = 1;
  size_t counted_ = 0;
  int counted_line_ = 1;
  bool trim_ = false;
  bool after_newline_ = false;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view source, const std::string& name) {
  std::string unix_lines;  // as Jinja reads a template
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      unix_lines += source[i];
    } else if (!source.substr(i + 1).starts_with('\n')) {
      unix_lines += '\n';
    }
  }
  return Lexer(unix_lines, name).run();
}

}  // namespace tandem::text::jinja
