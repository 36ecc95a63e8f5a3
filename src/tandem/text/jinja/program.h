// A Jinja template as a program: for, if, set and what is printed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/text/jinja/expression.h"

namespace tandem::text::jinja {

struct Run {
  Variables variables;
  std::string out;
  int64_t steps = 0;
};

using Statement = std::function<void(Run&)>;

// InputError with `name` and the line in front for what is wrong or not supported.
Statement parse_program(std::string_view source, const std::string& name);

}  // namespace tandem::text::jinja
