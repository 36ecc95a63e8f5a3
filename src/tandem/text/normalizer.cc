#include "tandem/text/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/regex.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

// Characters below U+0300 combine with nothing and are their own canonical composition. All begin
// with a byte below 0xCC.
bool composed_already(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0xCC) return false;
  }
  return true;
}

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

std::string unicode_form(const std::string& text, utf8proc_option_t options) {
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &out, options);
  if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  TANDEM_CHECK(size >= 0, "utf8proc: {}", utf8proc_errmsg(size));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(out, &std::free);
  return {reinterpret_cast<const char*>(out), static_cast<size_t>(size)};
}

NormalizerStep unicode_step(std::string_view form) {
  const bool compose = form == "NFC" || form == "NFKC";
  const bool compatible = form == "NFKC" || form == "NFKD";
  const auto options = static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (compatible ? UTF8PROC_COMPAT : 0));
  return [=](std::string text) {
    if (compose && !compatible ? composed_already(text) : is_ascii(text)) return text;
    return unicode_form(text, options);
  };
}

// Character by character, as tokenizers does it: no final sigma.
std::string lowercase(std::string text) {
  if (is_ascii(text)) {
    for (char& c : text) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return text;
  }
  std::string out;
  out.reserve(text.size());
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(character_bytes(rest[0]))) {
    const char32_t c = first_character(rest);
    if (c == 0x130) {  // the one character whose lower case is two
      out += "i\xCC\x87";
    } else {
      append_character(out, static_cast<char32_t>(utf8proc_tolower(static_cast<int32_t>(c))));
    }
  }
  return out;
}

NormalizerStep strip_step(bool left, bool right) {
  return [=](std::string text) {
    if (right) text.resize(text.size() - trailing_space(text));
    if (left) text.erase(0, leading_space(text));
    return text;
  };
}

NormalizerStep prepend_step(std::string prefix) {
  return [prefix = std::move(prefix)](const std::string& text) {
    return text.empty() ? text : prefix + text;
  };
}

}  // namespace

NormalizerStep replacement(JsonFields& fields) {
  JsonFields pattern(fields.get("pattern"), fields.where("pattern"));
  const std::string content = fields.string("content");
  if (!pattern.find("Regex")) {
    const std::string from = pattern.string("String");
    if (from.empty()) pattern.refuse("String", "a string that is not empty");
    pattern.finish();
    return [=](const std::string& text) {
      std::string out;
      size_t done = 0;
      for (size_t at = text.find(from); at != text.npos; at = text.find(from, done)) {
        out.append(text, done, at - done).append(content);
        done = at + from.size();
      }
      return out.append(text, done);
    };
  }
  const Regex regex(pattern.string("Regex"), pattern.where("Regex"));
  pattern.finish();
  return [=](const std::string& text) {
    std::string out;
    size_t done = 0;
    for_each_match(regex, text, [&](size_t begin, size_t end) {
      out.append(text, done, begin - done).append(content);
      done = end;
    });
    return out.append(text, done);
  };
}

Normalizer::Normalizer(const Json& json, const std::string& where) {
  if (!json.is_null()) add(json, where, 0);
}

void Normalizer::add(const Json& json, const std::string& where, int depth) {
  check_depth(depth, where);
  JsonFields fields(json, where);
  const std::string type = fields.string("type");
  if (type == "Sequence") {
    const Json& list = fields.list("normalizers");
    for (size_t i = 0; i < list.size(); ++i) {
      add(list[i], fmt::format("{}[{}]", fields.where("normalizers"), i), depth + 1);
    }
  } else if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    steps_.push_back(unicode_step(type));
  } else if (type == "Prepend") {
    steps_.push_back(prepend_step(fields.string("prepend")));
  } else if (type == "Replace") {
    steps_.push_back(replacement(fields));
  } else if (type == "Lowercase") {
    steps_.emplace_back(lowercase);
  } else if (type == "Strip") {
    steps_.push_back(strip_step(fields.boolean("strip_left"), fields.boolean("strip_right")));
  } else {
    throw InputError("{} \"{}\" is not supported", fields.where("type"), printable(type));
  }
  fields.finish();
}

std::string Normalizer::apply(std::string text) const {
  for (const NormalizerStep& step : steps_) text = step(std::move(text));
  return text;
}

}  // namespace tandem::text
