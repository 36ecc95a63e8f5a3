#include "tandem/text/json_fields.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"

namespace tandem::text {

namespace {

// Tables have a place for each id, so an id bounds memory. Real vocabularies have 300,000.
constexpr int64_t largest_id = 16 << 20;

std::string quoted(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace

void check_depth(int depth, const std::string& where) {
  constexpr int deepest = 16;
  if (depth == deepest) throw InputError("{} is nested too deep", where);
}

JsonFields::JsonFields(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw InputError("{} must be an object, not {}", where_, quoted(object));
  }
}

std::string JsonFields::where(std::string_view name) const {
  // "FILE: a" and then "FILE: a.b"; the file alone ends without a path.
  return fmt::format("{}{}{}", where_, where_.find(": ") == where_.npos ? ": " : ".",
                     printable(name));
}

const Json* JsonFields::find(std::string_view name) {
  read_.emplace(name);
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

const Json& JsonFields::get(std::string_view name) {
  const Json* value = find(name);
  if (!value) throw InputError("{} is missing", where(name));
  return *value;
}

void JsonFields::refuse(std::string_view name, std::string_view expected) {
  throw InputError("{} must be {}, not {}", where(name), expected, quoted(get(name)));
}

bool JsonFields::boolean(std::string_view name) {
  const Json& value = get(name);
  if (!value.is_boolean()) refuse(name, "true or false");
  return value.get<bool>();
}

bool JsonFields::boolean(std::string_view name, bool otherwise) {
  return find(name) ? boolean(name) : otherwise;
}

std::string JsonFields::string(std::string_view name) {
  const Json& value = get(name);
  if (!value.is_string()) refuse(name, "a string");
  return value.get<std::string>();
}

std::string JsonFields::string(std::string_view name, std::string_view otherwise) {
  return find(name) ? string(name) : std::string(otherwise);
}

int32_t JsonFields::token_id(std::string_view name) {
  return text::token_id(get(name), where(name));
}

const Json& JsonFields::list(std::string_view name) {
  const Json& value = get(name);
  if (!value.is_array()) refuse(name, "a list");
  return value;
}

const Json& JsonFields::object(std::string_view name) {
  const Json& value = get(name);
  if (!value.is_object()) refuse(name, "an object");
  return value;
}

void JsonFields::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) read_.emplace(name);
}

void JsonFields::finish() const {
  for (const auto& [name, value] : object_.items()) {
    if (!value.is_null() && !read_.contains(name)) {
      throw InputError("{} is not supported", where(name));
    }
  }
}

int32_t token_id(const Json& value, const std::string& where) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= uint64_t{largest_id}) {
    throw InputError("{} must be an id of a token, 0 to {}, not {}", where, largest_id - 1,
                     quoted(value));
  }
  return static_cast<int32_t>(value.get<uint64_t>());
}

}  // namespace tandem::text
