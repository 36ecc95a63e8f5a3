#include "tandem/text/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/text/utf8.h"

namespace tandem::text::jinja {

namespace {

constexpr size_t longest_text = 64 << 20;
constexpr size_t longest_list = 1 << 20;

std::vector<std::string> characters(const std::string& text) {
  std::vector<std::string> out;
  for (size_t i = 0; i < text.size(); i += out.back().size()) {
    out.push_back(text.substr(i, character_bytes(text[i])));
  }
  return out;
}

[[noreturn]] void wrong(std::string_view what) { throw InputError("{}", what); }

std::string representation(const Value& value) {
  switch (value.type()) {
    case Value::value_t::string: {
      const auto text = value.get<std::string>();
      const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
      std::string out(1, quote);
      for (const char c : text) {
        if (c == '\n') {
          out += "\\n";
        } else if (c == '\t') {
          out += "\\t";
        } else if (c == '\r') {
          out += "\\r";
        } else {
          if (c == quote || c == '\\') out += '\\';
          out += c;
        }
      }
      return out + quote;
    }
    case Value::value_t::array: {
      std::string out = "[";
      for (const Value& each : value) out += (out.size() > 1 ? ", " : "") + representation(each);
      return out + "]";
    }
    case Value::value_t::object: {
      std::string out = "{";
      for (const auto& [key, each] : value.items()) {
        out += (out.size() > 1 ? ", " : "") + representation(key) + ": " + representation(each);
      }
      return out + "}";
    }
    default:
      return printed(value);
  }
}

void write_json(const Value& value, int indent, int depth, std::string& out) {
  const bool object = value.is_object();
  if ((!object && !value.is_array()) || value.empty()) {
    if (value.is_discarded()) wrong("undefined is not JSON serializable");
    out += value.dump(-1, ' ', false, Value::error_handler_t::replace);
    return;
  }
  const auto line = [&](int level) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent * level), ' ');
  };
  out += object ? '{' : '[';
  bool first = true;
  for (const auto& [key, each] : value.items()) {
    if (!first) out += indent >= 0 ? "," : ", ";
    first = false;
    line(depth + 1);
    if (object) out += Value(key).dump(-1, ' ', false, Value::error_handler_t::replace) + ": ";
    write_json(each, indent, depth + 1, out);
  }
  line(depth);
  out += object ? '}' : ']';
}

}  // namespace

bool truth(const Value& value) {
  switch (value.type()) {
    case Value::value_t::boolean:
      return value.get<bool>();
    case Value::value_t::string:
      return !value.get_ref<const std::string&>().empty();
    case Value::value_t::array:
    case Value::value_t::object:
      return !value.empty();
    case Value::value_t::null:
    case Value::value_t::discarded:
      return false;
    default:
      return value.get<double>() != 0;
  }
}

std::string printed(const Value& value) {
  switch (value.type()) {
    case Value::value_t::discarded:
      return "";
    case Value::value_t::null:
      return "None";
    case Value::value_t::boolean:
      return value.get<bool>() ? "True" : "False";
    case Value::value_t::string:
      return value.get<std::string>();
    case Value::value_t::array:
    case Value::value_t::object:
      return representation(value);
    default:
      return value.dump();
  }
}

std::string to_json(const Value& value, int indent) {
  std::string out;
  write_json(value, indent, 0, out);
  return out;
}

int64_t length(const Value& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    return std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); });
  }
  if (!value.is_structured()) wrong("length of a value that has none");
  return static_cast<int64_t>(value.size());
}

const Value* item_place(const Value& value, const Value& key) {
  static const Value nothing = undefined();
  if (value.is_object() && key.is_string()) {
    const auto it = value.find(key.get_ref<const std::string&>());
    return it == value.end() ? &nothing : &*it;
  }
  if (!value.is_array() || !key.is_number_integer()) return nullptr;
  const auto size = static_cast<int64_t>(value.size());
  int64_t index = key.get<int64_t>();
  if (index < 0) index += size;
  return index < 0 || index >= size ? &nothing : &value[static_cast<size_t>(index)];
}

Value item(const Value& value, const Value& key) {
  if (value.is_discarded()) wrong("a part of an undefined value");
  if (const Value* place = item_place(value, key)) return *place;
  if (!key.is_number_integer() || !value.is_string()) return undefined();
  const Value all = elements(value);
  return *item_place(all, key);
}

Value elements(const Value& value) {
  if (value.is_array()) return value;
  Value list = Value::array();
  if (value.is_object()) {
    for (const auto& [key, each] : value.items()) list.push_back(key);
  } else if (value.is_string()) {
    for (std::string& each : characters(value.get<std::string>())) list.push_back(std::move(each));
  } else if (!value.is_discarded()) {
    wrong("a loop over a value that has no elements");
  }
  return list;
}

Value slice(const Value& value, const Value& begin, const Value& end, const Value& step) {
  if (!value.is_array() && !value.is_string()) wrong("a slice of neither a list nor a string");
  const auto whole = [](const Value& number, int64_t otherwise) {
    if (number.is_null()) return otherwise;
    if (!number.is_number_integer()) wrong("a slice with borders that are no integers");
    return number.get<int64_t>();
  };
  const Value list = elements(value);
  const auto size = static_cast<int64_t>(list.size());
  const int64_t by = whole(step, 1);
  if (by == 0) wrong("a slice with step 0");
  const auto border = [&](const Value& number, int64_t otherwise) {
    int64_t at = whole(number, otherwise);
    if (number.is_null()) return at;
    if (at < 0) at += size;
    return by > 0 ? std::clamp<int64_t>(at, 0, size) : std::clamp<int64_t>(at, -1, size - 1);
  };
  const int64_t from = border(begin, by > 0 ? 0 : size - 1);
  const int64_t to = border(end, by > 0 ? size : -1);
  Value out = Value::array();
  for (int64_t i = from; by > 0 ? i < to : i > to; i += by) {
    out.push_back(list[static_cast<size_t>(i)]);
    if (by > size || by < -size) break;
  }
  if (value.is_array()) return out;
  std::string text;
  for (const Value& each : out) text += each.get_ref<const std::string&>();
  return text;
}

Value bounded(std::string text) {
  if (text.size() > longest_text) wrong("a text of more than 64 MiB");
  return text;
}

Value add(const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    return bounded(a.get<std::string>() + b.get<std::string>());
  }
  if (a.is_array() && b.is_array()) {
    if (a.size() + b.size() > longest_list) wrong("a list of more than a million elements");
    Value out = a;
    for (const Value& each : b) out.push_back(each);
    return out;
  }
  return arithmetic('+', a, b);
}

Value arithmetic(char operation, const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) wrong("arithmetic with values that are no numbers");
  const double x = a.get<double>();
  const double y = b.get<double>();
  const bool divides = operation == '/' || operation == 'f' || operation == '%';
  if (divides && y == 0) wrong("division by zero");
  double result = 0;
  switch (operation) {
    case '+':
      result = x + y;
      break;
    case '-':
      result = x - y;
      break;
    case '*':
      result = x * y;
      break;
    case '/':
      return x / y;
    case 'f':
      result = std::floor(x / y);
      break;
    default:
      result = x - y * std::floor(x / y);
  }
  const bool whole = a.is_number_integer() && b.is_number_integer() && std::abs(result) < 9e15;
  if (whole) return static_cast<int64_t>(result);
  return result;
}

bool contains(const Value& container, const Value& element) {
  if (container.is_string()) {
    if (!element.is_string()) wrong("'in' of a string with what is no string");
    return container.get_ref<const std::string&>().find(element.get_ref<const std::string&>()) !=
           std::string::npos;
  }
  if (container.is_object())
    return element.is_string() && container.contains(element.get<std::string>());
  if (container.is_discarded()) return false;
  if (!container.is_array()) wrong("'in' of a value that has no elements");
  return std::find(container.begin(), container.end(), element) != container.end();
}

bool less(const Value& a, const Value& b) {
  if (!(a.is_number() && b.is_number()) && !(a.is_string() && b.is_string())) {
    wrong("values that have no order are compared");
  }
  return a < b;
}

}  // namespace tandem::text::jinja
