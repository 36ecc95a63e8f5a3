// What is done to a text before it is cut: the "normalizer" of tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tandem/text/json_fields.h"

namespace tandem::text {

using NormalizerStep = std::function<std::string(std::string)>;  // of valid UTF-8; thread-safe

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  // InputError with `where` in front for what is not supported; `json` may be null.
  Normalizer(const Json& json, const std::string& where);

  bool empty() const { return steps_.empty(); }
  std::string apply(std::string text) const;

 private:
  void add(const Json& json, const std::string& where, int depth);

  std::vector<NormalizerStep> steps_;
};

// A "pattern" and a "content" of tokenizer.json: a function that replaces every match.
NormalizerStep replacement(JsonFields& fields);

}  // namespace tandem::text
