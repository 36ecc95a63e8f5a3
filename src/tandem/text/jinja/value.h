// Values of Jinja templates, and what Python does with them. JSON values that keep the order of
// their keys; "undefined" is the value that JSON calls discarded.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace tandem::text::jinja {

using Value = nlohmann::ordered_json;

inline Value undefined() { return Value(Value::value_t::discarded); }  // braces: a list of it

bool truth(const Value& value);
std::string printed(const Value& value);                   // as {{ value }} does
std::string to_json(const Value& value, int indent = -1);  // as Python's json.dumps

int64_t length(const Value& value);  // of strings in characters
// value[key]; undefined where there is nothing.
Value item(const Value& value, const Value& key);
// The same in its place; null where it has none, as a character of a string.
const Value* item_place(const Value& value, const Value& key);
// value[begin:end:step]; null for what is left out.
Value slice(const Value& value, const Value& begin, const Value& end, const Value& step);
Value elements(const Value& value);  // what a loop goes over, as a list

Value bounded(std::string text);  // InputError for a text of a size that no chat has
Value add(const Value& a, const Value& b);
Value arithmetic(char operation, const Value& a, const Value& b);  // - * / % and 'f' for //
bool contains(const Value& container, const Value& element);
bool less(const Value& a, const Value& b);

}  // namespace tandem::text::jinja
