#include "tandem/text/added_tokens.h"

#include <set>

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/regex.h"
#include "tandem/text/utf8.h"

namespace tandem::text {

namespace {

bool is_word(char32_t character) {
  static const Regex word("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}]",
                          "characters of words");
  std::string text;
  append_character(text, character);
  return word.find(text, 0).has_value();
}

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  size_t begin = text.size() - 1;
  while (continues_character(text[begin])) --begin;
  return is_word(first_character(text.substr(begin)));
}

bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word(first_character(text));
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const Json& json, const std::string& where) {
  std::vector<AddedToken> tokens;
  std::set<std::string, std::less<>> contents;
  for (size_t i = 0; i < json.size(); ++i) {
    JsonFields fields(json[i], fmt::format("{}[{}]", where, i));
    AddedToken token;
    token.content = fields.string("content");
    token.id = fields.token_id("id");
    token.special = fields.boolean("special");
    token.normalized = fields.boolean("normalized");
    token.single_word = fields.boolean("single_word");
    token.left_strip = fields.boolean("lstrip");
    token.right_strip = fields.boolean("rstrip");
    fields.finish();
    if (token.content.empty()) fields.refuse("content", "a string that is not empty");
    if (!contents.insert(token.content).second) {
      throw InputError("{} \"{}\" is there twice", fields.where("content"),
                       printable(token.content));
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

TokenFinder::TokenFinder(const std::vector<AddedToken>& tokens,
                         const std::function<std::string(const std::string&)>& form)
    : tokens_(tokens) {
  roots_.fill(-1);
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string text = form(tokens_[i].content);
    if (!text.empty()) add(text, static_cast<int32_t>(i));
  }
}

void TokenFinder::add(std::string_view text, int32_t token) {
  int32_t* link = &roots_[static_cast<unsigned char>(text[0])];
  int32_t node = -1;
  for (const char byte : text) {
    while (*link >= 0 && nodes_[*link].byte != byte) link = &nodes_[*link].sibling;
    if (*link < 0) {
      *link = static_cast<int32_t>(nodes_.size());
      node = *link;
      nodes_.push_back({.byte = byte});  // after which `link` may dangle
    } else {
      node = *link;
    }
    link = &nodes_[node].child;
  }
  // Two tokens may look the same once normalized: the first counts.
  if (nodes_[node].token < 0) nodes_[node].token = token;
}

int32_t TokenFinder::child(int32_t node, char byte) const {
  for (int32_t i = nodes_[node].child; i >= 0; i = nodes_[i].sibling) {
    if (nodes_[i].byte == byte) return i;
  }
  return -1;
}

int32_t TokenFinder::longest(std::string_view text, size_t& bytes) const {
  int32_t found = -1;
  int32_t node = roots_[static_cast<unsigned char>(text[0])];
  for (size_t i = 1; node >= 0; ++i) {
    if (nodes_[node].token >= 0) {
      found = nodes_[node].token;
      bytes = i;
    }
    node = i < text.size() ? child(node, text[i]) : -1;
  }
  return found;
}

void TokenFinder::split(std::string_view text, const std::function<void(const Part&)>& part) const {
  const auto piece = [&](size_t begin, size_t end, const AddedToken* token) {
    part({.text = text.substr(begin, end - begin), .begin = begin, .token = token});
  };
  if (nodes_.empty()) return piece(0, text.size(), nullptr);
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    size_t bytes = 0;
    const int32_t found =
        roots_[static_cast<unsigned char>(text[at])] < 0 ? -1 : longest(text.substr(at), bytes);
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[found];
    size_t begin = at;
    at += bytes;
    size_t end = at;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) {
      continue;
    }
    if (token.left_strip) {
      begin = std::max(begin - trailing_space(text.substr(0, begin)), std::min(done, begin));
    }
    if (token.right_strip) end += leading_space(text.substr(end));
    if (done < begin) piece(done, begin, nullptr);
    piece(begin, end, &token);
    done = end;
  }
  if (done < text.size()) piece(done, text.size(), nullptr);
}

}  // namespace tandem::text
