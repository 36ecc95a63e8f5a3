#include "tandem/serve/fields.h"

#include <algorithm>
#include <cmath>

namespace tandem {

Json parse_body(std::string_view body) {
  static constexpr int most_depth = 32;
  const auto not_too_deep = [](int depth, Json::parse_event_t, const Json&) {
    if (depth > most_depth)
      throw ApiError(400, fmt::format("the body nests deeper than {} levels", most_depth));
    return true;
  };
  Json json;
  try {
    json = Json::parse(body, not_too_deep);
  } catch (const Json::exception& error) {
    throw ApiError(400, fmt::format("the body is not JSON: {}", error.what()));
  }
  if (!json.is_object()) throw ApiError(400, "the body is not a JSON object");
  return json;
}

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

void Fields::fail(std::string_view name, std::string_view expected) const {
  throw ApiError(400, fmt::format("'{}{}': {}", where_, name, expected),
                 fmt::format("{}{}", where_, name));
}

const Json* Fields::find(std::string_view name) {
  read_.emplace(name);
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

const Json& Fields::get(std::string_view name) {
  const Json* value = find(name);
  if (!value) fail(name, "is missing");
  return *value;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = find(name);
  if (!value) return {};
  if (!value->is_boolean()) fail(name, "must be true or false");
  return value->get<bool>();
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t lowest, int64_t highest) {
  const Json* value = find(name);
  if (!value) return {};
  // What is above the largest int64_t is held as unsigned.
  const bool fits = value->is_number_integer() &&
                    !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX);
  if (!fits || value->get<int64_t>() < lowest || value->get<int64_t>() > highest)
    fail(name, fmt::format("must be a whole number from {} to {}", lowest, highest));
  return value->get<int64_t>();
}

std::optional<double> Fields::number(std::string_view name, double lowest, double highest) {
  const Json* value = find(name);
  if (!value) return {};
  if (!value->is_number() || !(value->get<double>() >= lowest && value->get<double>() <= highest))
    fail(name, fmt::format("must be a number from {} to {}", lowest, highest));
  return value->get<double>();
}

std::optional<std::string> Fields::string(std::string_view name) {
  const Json* value = find(name);
  if (!value) return {};
  if (!value->is_string()) fail(name, "must be a text");
  return value->get<std::string>();
}

std::optional<uint64_t> Fields::bits(std::string_view name) {
  const Json* value = find(name);
  if (!value) return {};
  if (!value->is_number_integer()) fail(name, "must be a whole number of 64 bits");
  return value->is_number_unsigned() ? value->get<uint64_t>()
                                     : static_cast<uint64_t>(value->get<int64_t>());
}

void Fields::ignore(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) read_.emplace(name);
}

void Fields::refuse_unless(std::string_view name, std::initializer_list<Json> neutral) {
  const Json* value = find(name);
  if (value && std::ranges::find(neutral, *value) == neutral.end())
    fail(name, "is not supported here");
}

void Fields::finish() const {
  for (const auto& [name, value] : object_.items())
    if (!read_.contains(name)) fail(name, "is not known here");
}

}  // namespace tandem
