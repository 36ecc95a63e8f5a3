// The fields of a JSON object that a client has sent. Every mistake is an ApiError of status 400
// that names the field; so is a field that nobody reads, since it might change the answer.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "tandem/serve/api_error.h"

namespace tandem {

// The object in a body. ApiError where it is none, or nests deeper than a request can.
Json parse_body(std::string_view body);

class Fields {
 public:
  // `where` stands before the names of fields: "stream_options.".
  explicit Fields(const Json& object, std::string where = {});

  // null where the field is missing or null.
  const Json* find(std::string_view name);
  const Json& get(std::string_view name);  // must be there

  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t lowest, int64_t highest);
  std::optional<double> number(std::string_view name, double lowest, double highest);
  std::optional<std::string> string(std::string_view name);
  // A seed: any 64 bits.
  std::optional<uint64_t> bits(std::string_view name);

  // Fields that change no answer.
  void ignore(std::initializer_list<std::string_view> names);
  // A field whose work nobody does: only a value that asks for none.
  void refuse_unless(std::string_view name, std::initializer_list<Json> neutral);
  // To be called when all is read.
  void finish() const;

  [[noreturn]] void fail(std::string_view name, std::string_view expected) const;

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace tandem
