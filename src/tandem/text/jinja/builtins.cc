#include "tandem/text/jinja/builtins.h"

#include <utf8proc.h>

#include <algorithm>
#include <functional>

#include "tandem/base/error.h"
#include "tandem/text/utf8.h"

namespace tandem::text::jinja {

namespace {

const std::string& string_of(const Value& value) {
  if (!value.is_string()) throw InputError("a string is needed, not {}", printed(value));
  return value.get_ref<const std::string&>();
}

std::string argument(const Arguments& arguments, size_t place) {
  const std::optional<Value> value = arguments.get(place, "");
  if (!value) throw InputError("an argument is missing");
  return string_of(*value);
}

// Python's strip: white space, or any of the given characters.
std::string strip(const std::string& text, const Arguments& arguments, bool left, bool right) {
  const std::optional<Value> set = arguments.get(0, "chars");
  const Value characters = set && !set->is_null() ? elements(*set) : Value();
  const auto goes = [&](const std::string& c) {
    return characters.is_null() ? is_space(first_character(c)) : contains(characters, c);
  };
  Value list = elements(text);
  auto begin = list.begin();
  auto end = list.end();
  while (left && begin != end && goes(begin->get<std::string>())) ++begin;
  while (right && begin != end && goes((end - 1)->get<std::string>())) --end;
  std::string out;
  for (; begin != end; ++begin) out += begin->get_ref<const std::string&>();
  return out;
}

std::string replace(std::string text, const std::string& from, const std::string& to) {
  if (from.empty()) throw InputError("replace: nothing to look for");
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string change_case(const std::string& text, bool upper) {
  std::string out;
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i])) {
    const auto c = static_cast<int32_t>(first_character(std::string_view(text).substr(i)));
    append_character(out, static_cast<char32_t>(upper ? utf8proc_toupper(c) : utf8proc_tolower(c)));
  }
  return out;
}

Value split(const std::string& text, const Arguments& arguments) {
  Value out = Value::array();
  const std::optional<Value> given = arguments.get(0, "sep");
  if (!given || given->is_null()) {
    std::string word;
    for (const Value& each : elements(text)) {
      const auto& c = each.get_ref<const std::string&>();
      if (!is_space(first_character(c))) {
        word += c;
      } else if (!word.empty()) {
        out.push_back(std::exchange(word, ""));
      }
    }
    if (!word.empty()) out.push_back(word);
    return out;
  }
  const std::string& separator = string_of(*given);
  if (separator.empty()) throw InputError("split: empty separator");
  size_t begin = 0;
  for (size_t at = text.find(separator); at != text.npos; at = text.find(separator, begin)) {
    out.push_back(text.substr(begin, at - begin));
    begin = at + separator.size();
  }
  out.push_back(text.substr(begin));
  return out;
}

Value join(const Value& list, const std::string& separator) {
  std::string out;
  bool first = true;
  for (const Value& each : elements(list)) {
    out += (first ? "" : separator) + printed(each);
    first = false;
  }
  return out;
}

Value items(const Value& value) {
  if (!value.is_object()) throw InputError("items of a value that is no mapping");
  Value out = Value::array();
  for (const auto& [key, each] : value.items()) out.push_back(Value::array({key, each}));
  return out;
}

Value select_attribute(const Value& list, const Arguments& arguments, bool wanted) {
  const std::string name = argument(arguments, 0);
  Value out = Value::array();
  for (const Value& each : elements(list)) {
    const Value attribute = item(each, name);
    Arguments rest;
    if (arguments.values.size() > 2) rest.values = {arguments.values[2]};
    const bool holds = arguments.values.size() > 1 ? test(argument(arguments, 1), attribute, rest)
                                                   : truth(attribute);
    if (holds == wanted) out.push_back(each);
  }
  return out;
}

Value map_attribute(const Value& list, const Arguments& arguments) {
  const std::optional<Value> attribute = arguments.get(9, "attribute");
  Value out = Value::array();
  for (const Value& each : elements(list)) {
    out.push_back(attribute ? item(each, *attribute) : filter(argument(arguments, 0), each, {}));
  }
  return out;
}

Value or_default(const Value& value, const Arguments& a) {
  const std::optional<Value> also_false = a.get(1, "boolean");
  const bool given = also_false && truth(*also_false) ? truth(value) : !value.is_discarded();
  return given ? value : a.get(0, "default_value").value_or("");
}

Value json_filter(const Value& value, const Arguments& a) {
  const std::optional<Value> indent = a.get(0, "indent");
  return to_json(
      value, indent && indent->is_number_integer() ? std::clamp(indent->get<int>(), 0, 16) : -1);
}

Value to_integer(const Value& value) {
  if (value.is_number()) return static_cast<int64_t>(value.get<double>());
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  return value.is_string() ? std::strtoll(value.get<std::string>().c_str(), nullptr, 10) : 0;
}

using Filter = std::function<Value(const Value&, const Arguments&)>;
const std::map<std::string, Filter>& filters() {
  static const std::map<std::string, Filter> table = {
      {"trim", [](const Value& v, const Arguments& a) { return strip(printed(v), a, true, true); }},
      {"tojson", json_filter},
      {"length", [](const Value& v, const Arguments&) { return length(v); }},
      {"count", [](const Value& v, const Arguments&) { return length(v); }},
      {"default", or_default},
      {"d", or_default},
      {"upper", [](const Value& v, const Arguments&) { return change_case(printed(v), true); }},
      {"lower", [](const Value& v, const Arguments&) { return change_case(printed(v), false); }},
      {"string", [](const Value& v, const Arguments&) { return printed(v); }},
      {"safe", [](const Value& v, const Arguments&) { return v; }},
      {"int", [](const Value& v, const Arguments&) { return to_integer(v); }},
      {"first", [](const Value& v, const Arguments&) { return item(elements(v), 0); }},
      {"last", [](const Value& v, const Arguments&) { return item(elements(v), -1); }},
      {"list", [](const Value& v, const Arguments&) { return elements(v); }},
      {"items", [](const Value& v, const Arguments&) { return items(v); }},
      {"map", map_attribute},
      {"join", [](const Value& v,
                  const Arguments& a) { return join(v, printed(a.get(0, "d").value_or(""))); }},
      {"replace",
       [](const Value& v, const Arguments& a) {
         return replace(printed(v), argument(a, 0), argument(a, 1));
       }},
      {"selectattr",
       [](const Value& v, const Arguments& a) { return select_attribute(v, a, true); }},
      {"rejectattr",
       [](const Value& v, const Arguments& a) { return select_attribute(v, a, false); }},
  };
  return table;
}

using Test = std::function<bool(const Value&, const Arguments&)>;
const std::map<std::string, Test>& tests() {
  const auto equal = [](const Value& v, const Arguments& a) {
    return v == a.get(0, "").value_or(undefined());
  };
  static const std::map<std::string, Test> table = {
      {"defined", [](const Value& v, const Arguments&) { return !v.is_discarded(); }},
      {"undefined", [](const Value& v, const Arguments&) { return v.is_discarded(); }},
      {"none", [](const Value& v, const Arguments&) { return v.is_null(); }},
      {"string", [](const Value& v, const Arguments&) { return v.is_string(); }},
      {"mapping", [](const Value& v, const Arguments&) { return v.is_object(); }},
      {"number", [](const Value& v, const Arguments&) { return v.is_number() || v.is_boolean(); }},
      {"integer", [](const Value& v, const Arguments&) { return v.is_number_integer(); }},
      {"float", [](const Value& v, const Arguments&) { return v.is_number_float(); }},
      {"boolean", [](const Value& v, const Arguments&) { return v.is_boolean(); }},
      {"true", [](const Value& v, const Arguments&) { return v.is_boolean() && v.get<bool>(); }},
      {"false", [](const Value& v, const Arguments&) { return v.is_boolean() && !v.get<bool>(); }},
      {"iterable",
       [](const Value& v, const Arguments&) {
         return v.is_structured() || v.is_string() || v.is_discarded();
       }},
      {"sequence",
       [](const Value& v, const Arguments&) {
         return v.is_structured() || v.is_string() || v.is_discarded();
       }},
      {"odd", [](const Value& v, const Arguments&) { return arithmetic('%', v, 2) == 1; }},
      {"even", [](const Value& v, const Arguments&) { return arithmetic('%', v, 2) == 0; }},
      {"equalto", equal},
      {"eq", equal},
      {"in", [](const Value& v,
                const Arguments& a) { return contains(a.get(0, "").value_or(undefined()), v); }},
  };
  return table;
}

bool starts_or_ends(const std::string& text, const Arguments& arguments, bool start) {
  const std::optional<Value> given = arguments.get(0, "");
  if (!given) throw InputError("an argument is missing");
  const Value list = given->is_array() ? *given : Value::array({*given});
  return std::any_of(list.begin(), list.end(), [&](const Value& each) {
    return start ? text.starts_with(string_of(each)) : text.ends_with(string_of(each));
  });
}

const std::map<std::string, Filter>& methods() {
  static const std::map<std::string, Filter> table = {
      {"strip",
       [](const Value& v, const Arguments& a) { return strip(string_of(v), a, true, true); }},
      {"lstrip",
       [](const Value& v, const Arguments& a) { return strip(string_of(v), a, true, false); }},
      {"rstrip",
       [](const Value& v, const Arguments& a) { return strip(string_of(v), a, false, true); }},
      {"split", [](const Value& v, const Arguments& a) { return split(string_of(v), a); }},
      {"upper", [](const Value& v, const Arguments&) { return change_case(string_of(v), true); }},
      {"lower", [](const Value& v, const Arguments&) { return change_case(string_of(v), false); }},
      {"startswith",
       [](const Value& v, const Arguments& a) { return starts_or_ends(string_of(v), a, true); }},
      {"endswith",
       [](const Value& v, const Arguments& a) { return starts_or_ends(string_of(v), a, false); }},
      {"replace",
       [](const Value& v, const Arguments& a) {
         return replace(string_of(v), argument(a, 0), argument(a, 1));
       }},
      {"join",
       [](const Value& v, const Arguments& a) {
         return join(a.get(0, "").value_or(Value::array()), string_of(v));
       }},
      {"items", [](const Value& v, const Arguments&) { return items(v); }},
      {"keys", [](const Value& v, const Arguments&) { return elements(v); }},
      {"values",
       [](const Value& v, const Arguments&) {
         Value out = Value::array();
         for (const auto& [key, each] : v.items()) out.push_back(each);
         return out;
       }},
      {"get",
       [](const Value& v, const Arguments& a) {
         const Value found = item(v, a.get(0, "").value_or(undefined()));
         return found.is_discarded() ? a.get(1, "").value_or(nullptr) : found;
       }},
  };
  return table;
}

}  // namespace

std::optional<Value> Arguments::get(size_t place, const std::string& name) const {
  if (place < values.size()) return values[place];
  const auto it = named.find(name);
  return it == named.end() ? std::nullopt : std::optional(it->second);
}

bool is_filter(const std::string& name) { return filters().contains(name); }
bool is_test(const std::string& name) { return tests().contains(name); }
bool is_method(const std::string& name) { return methods().contains(name); }

Value filter(const std::string& name, const Value& value, const Arguments& arguments) {
  if (!is_filter(name)) throw InputError("filter '{}' is not supported", name);
  return filters().at(name)(value, arguments);
}

bool test(const std::string& name, const Value& value, const Arguments& arguments) {
  if (!is_test(name)) throw InputError("test '{}' is not supported", name);
  return tests().at(name)(value, arguments);
}

Value method(const std::string& name, const Value& value, const Arguments& arguments) {
  if (value.is_discarded()) throw InputError("method '{}' of an undefined value", name);
  return methods().at(name)(value, arguments);
}

}  // namespace tandem::text::jinja
