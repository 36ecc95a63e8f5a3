// Variables of a run, and the tokens that a parser reads.
#include "tandem/base/error.h"
#include "tandem/text/jinja/expression.h"

namespace tandem::text::jinja {

using Kind = Token::Kind;

const Value& Variables::get(const std::string& name) const {
  static const Value nothing = undefined();
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto it = scope->find(name);
    if (it != scope->end()) return *it;
  }
  return nothing;
}

void Variables::set(const std::string& name, Value value) {
  scopes_.back()[name] = std::move(value);
}

void Variables::set_attribute(const std::string& name, const std::string& attribute, Value value) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto it = scope->find(name);
    if (it == scope->end()) continue;
    if (it->is_object()) {
      (*it)[attribute] = std::move(value);
      return;
    }
    break;
  }
  throw InputError("'{}' is no namespace", name);
}

bool TokenReader::take_sign(std::string_view sign) {
  if (!is(Kind::sign, sign)) return false;
  next();
  return true;
}

bool TokenReader::take_word(std::string_view word) {
  if (!is(Kind::name, word)) return false;
  next();
  return true;
}

void TokenReader::expect_sign(std::string_view sign) {
  if (!take_sign(sign)) refuse(fmt::format("'{}', where '{}' should be", peek().value, sign));
}

std::string TokenReader::expect_name() {
  if (peek().kind != Kind::name) refuse(fmt::format("'{}', where a name should be", peek().value));
  return next().value;
}

void TokenReader::expect(Token::Kind kind, std::string_view what) {
  if (peek().kind != kind) refuse(fmt::format("'{}', where {} should be", peek().value, what));
  next();
}

void TokenReader::refuse(std::string_view what) const {
  throw InputError("{}: line {}: {}", name_, peek().line, what);
}

}  // namespace tandem::text::jinja
