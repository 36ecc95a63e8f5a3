// One object of tokenizer.json, read field by field. A field that nobody reads is refused: it might
// change what the tokenizer does.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::text {

using Json = nlohmann::json;

// InputError where stages are sequences within sequences deeper than any real tokenizer's.
void check_depth(int depth, const std::string& where);

class JsonFields {
 public:
  // `where` is the file and the path of the object in it: "tokenizer.json: model".
  JsonFields(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  std::string where(std::string_view name) const;

  // null where the field is missing or null.
  const Json* find(std::string_view name);
  const Json& get(std::string_view name);  // must be there

  bool boolean(std::string_view name);
  bool boolean(std::string_view name, bool otherwise);
  std::string string(std::string_view name);
  std::string string(std::string_view name, std::string_view otherwise);
  int32_t token_id(std::string_view name);
  const Json& list(std::string_view name);
  const Json& object(std::string_view name);

  // Fields that change no token: offsets, type ids, versions.
  void ignore(std::initializer_list<std::string_view> names);

  [[noreturn]] void refuse(std::string_view name, std::string_view expected);

  // To be called when all is read: refuses fields that were not.
  void finish() const;

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> read_;
};

// `value` as an id of a token; InputError with `where` in front.
int32_t token_id(const Json& value, const std::string& where);

}  // namespace tandem::text
