// Filters, tests, methods and functions of Jinja templates.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tandem/text/jinja/value.h"

namespace tandem::text::jinja {

struct Arguments {
  std::vector<Value> values;
  std::map<std::string, Value> named;

  // The argument at a place or of a name.
  std::optional<Value> get(size_t place, const std::string& name) const;
};

// Whether there is one of the name, so that a template is refused before it runs.
bool is_filter(const std::string& name);
bool is_test(const std::string& name);
bool is_method(const std::string& name);

Value filter(const std::string& name, const Value& value, const Arguments& arguments);
bool test(const std::string& name, const Value& value, const Arguments& arguments);
Value method(const std::string& name, const Value& value, const Arguments& arguments);

}  // namespace tandem::text::jinja
