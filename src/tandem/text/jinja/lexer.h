// Cuts a Jinja template into text and tokens, with the white-space rules that chat templates are
// written for: trim_blocks and lstrip_blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem::text::jinja {

struct Token {
  enum class Kind {
    text,         // between tags
    print_begin,  // {{
    print_end,
    block_begin,  // {%
    block_end,
    name,
    string,  // without its quotes
    integer,
    real,
    sign,  // an operator or bracket
    end,
  };
  Kind kind = Kind::end;
  std::string value;
  int line = 0;
};

// InputError with `name` and the line in front.
std::vector<Token> tokens_of(std::string_view source, const std::string& name);

}  // namespace tandem::text::jinja
