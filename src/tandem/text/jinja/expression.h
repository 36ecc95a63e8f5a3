// Expressions of Jinja templates: parsed into functions of the variables.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "tandem/text/jinja/lexer.h"
#include "tandem/text/jinja/value.h"

namespace tandem::text::jinja {

// The variables while a template runs: a loop has a scope of its own.
class Variables {
 public:
  explicit Variables(Value globals) { push(std::move(globals)); }

  void push(Value scope) { scopes_.push_back(std::move(scope)); }
  void pop() { scopes_.pop_back(); }
  const Value& get(const std::string& name) const;
  void set(const std::string& name, Value value);
  // name.attribute = value, of a namespace of any scope.
  void set_attribute(const std::string& name, const std::string& attribute, Value value);

 private:
  std::vector<Value> scopes_;
};

// Gives a value, or the place of one that is there already: a conversation must not be copied each
// time a template looks at a message of it.
class Expression {
 public:
  Expression() = default;
  template <class Function>
  requires std::is_invocable_r_v<Value, Function, const Variables&> Expression(Function value)
      : value_(std::move(value)) {}                             // NOLINT: as for std::function
  using Place = std::function<const Value*(const Variables&)>;  // null: only as a value
  Expression(std::function<Value(const Variables&)> value, Place place)
      : value_(std::move(value)), place_(std::move(place)) {}

  explicit operator bool() const { return static_cast<bool>(value_); }
  const Value* place(const Variables& variables) const {
    return place_ ? place_(variables) : nullptr;
  }
  Value operator()(const Variables& variables) const {
    const Value* there = place(variables);
    return there ? *there : value_(variables);
  }

 private:
  std::function<Value(const Variables&)> value_;
  Place place_;
};

// What an expression gives, without a copy where that is possible. It holds as long as the
// variables are not changed.
class Evaluated {
 public:
  Evaluated(const Expression& expression, const Variables& variables)
      : there_(expression.place(variables)) {
    if (!there_) own_ = expression(variables);
  }
  operator const Value&() const { return there_ ? *there_ : own_; }  // NOLINT: stands for it
  const Value& get() const { return *this; }

 private:
  const Value* there_;
  Value own_;
};

// The tokens of a template with a place among them.
class TokenReader {
 public:
  TokenReader(std::vector<Token> tokens, std::string name)
      : tokens_(std::move(tokens)), name_(std::move(name)) {}

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token next() {
    Token token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(Token::Kind kind, std::string_view value) const {
    return peek().kind == kind && peek().value == value;
  }
  bool take_sign(std::string_view sign);
  bool take_word(std::string_view word);
  void expect_sign(std::string_view sign);
  std::string expect_name();
  void expect(Token::Kind kind, std::string_view what);
  [[noreturn]] void refuse(std::string_view what) const;

 private:
  std::vector<Token> tokens_;
  std::string name_;
  size_t at_ = 0;
};

// `conditional`: "a if b else c" may stand here, as it may not behind "in" of a loop.
Expression parse_expression(TokenReader& reader, bool conditional = true);

}  // namespace tandem::text::jinja
