// Which special tokens stand before and behind a text: the "post_processor" of tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/text/json_fields.h"
#include "tandem/text/vocabulary.h"

namespace tandem::text {

class PostProcessor {
 public:
  PostProcessor() = default;  // none
  // InputError with `where` in front for what is not supported; `json` may be null.
  PostProcessor(const Json& json, const std::string& where, const Vocabulary& vocabulary);

  const std::vector<int32_t>& before() const { return before_; }
  const std::vector<int32_t>& behind() const { return behind_; }

 private:
  void add(const Json& json, const std::string& where, int depth, const Vocabulary& vocabulary);
  void add_template(JsonFields& fields, const Vocabulary& vocabulary);
  void wrap(const std::vector<int32_t>& before, const std::vector<int32_t>& behind);

  std::vector<int32_t> before_;
  std::vector<int32_t> behind_;
};

}  // namespace tandem::text
