#include "tandem/text/jinja/expression.h"

#include "tandem/base/error.h"
#include "tandem/text/jinja/builtins.h"

namespace tandem::text::jinja {

namespace {

using Kind = Token::Kind;

constexpr int deepest_expression = 200;  // expressions in expressions
constexpr int64_t longest_range = 100'000;

struct ArgumentExpressions {
  std::vector<Expression> values;
  std::map<std::string, Expression> named;

  Arguments evaluate(const Variables& variables) const {
    Arguments out;
    for (const Expression& value : values) out.values.push_back(value(variables));
    for (const auto& [name, value] : named) out.named[name] = value(variables);
    return out;
  }
};

Value range(const Arguments& arguments) {
  std::vector<int64_t> n;
  for (const Value& value : arguments.values) {
    if (!value.is_number_integer()) throw InputError("range of what is no integer");
    n.push_back(value.get<int64_t>());
  }
  if (n.empty() || n.size() > 3) throw InputError("range takes one to three integers");
  const int64_t begin = n.size() > 1 ? n[0] : 0;
  const int64_t end = n.size() > 1 ? n[1] : n[0];
  const int64_t step = n.size() > 2 ? n[2] : 1;
  if (step == 0) throw InputError("range with step 0");
  Value out = Value::array();
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    if (static_cast<int64_t>(out.size()) == longest_range) throw InputError("range is too long");
    out.push_back(i);
  }
  return out;
}

Value call(const std::string& function, const Arguments& arguments) {
  if (function == "range") return range(arguments);
  if (function == "raise_exception") {
    throw InputError("{}", printed(arguments.get(0, "message").value_or("")));
  }
  Value out = Value::object();  // namespace and dict
  for (const auto& [name, value] : arguments.named) out[name] = value;
  return out;
}

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenReader& reader) : reader_(reader) {}

  Expression conditional() {
    if (++depth_ > deepest_expression) reader_.refuse("an expression that is nested too deep");
    Expression value = either();
    while (reader_.take_word("if")) {
      Expression condition = either();
      Expression otherwise = [](const Variables&) { return undefined(); };
      if (reader_.take_word("else")) otherwise = conditional();
      value = [=](const Variables& v) {
        return truth(Evaluated(condition, v)) ? value(v) : otherwise(v);
      };
    }
    --depth_;
    return value;
  }

  Expression either() {
    Expression left = both();
    while (reader_.take_word("or")) {
      Expression right = both();
      left = [=](const Variables& v) {
        Value value = left(v);
        return truth(value) ? value : right(v);
      };
    }
    return left;
  }

 private:
  Expression both() {
    Expression left = negation();
    while (reader_.take_word("and")) {
      Expression right = negation();
      left = [=](const Variables& v) {
        Value value = left(v);
        return truth(value) ? right(v) : value;
      };
    }
    return left;
  }

  Expression negation() {
    if (!reader_.take_word("not")) return comparison();
    if (++depth_ > deepest_expression) reader_.refuse("an expression that is nested too deep");
    Expression value = negation();
    --depth_;
    return [=](const Variables& v) { return Value(!truth(Evaluated(value, v))); };
  }

  Expression comparison() {
    Expression left = sum();
    while (true) {
      std::string sign;
      for (const char* each : {"==", "!=", "<=", ">=", "<", ">"}) {
        if (sign.empty() && reader_.take_sign(each)) sign = each;
      }
      if (sign.empty() && reader_.take_word("in")) sign = "in";
      if (sign.empty() && reader_.is(Kind::name, "not") && reader_.peek(1).value == "in") {
        reader_.next();
        reader_.next();
        sign = "not in";
      }
      if (sign.empty()) return left;
      Expression right = sum();
      left = [=](const Variables& v) {
        return Value(compare(sign, Evaluated(left, v), Evaluated(right, v)));
      };
    }
  }

  static bool compare(const std::string& sign, const Value& a, const Value& b) {
    if (sign == "==" || sign == "!=") {
      const bool equal = a.is_discarded() ? b.is_discarded() : a == b;
      return equal == (sign == "==");
    }
    if (sign == "<") return less(a, b);
    if (sign == ">") return less(b, a);
    if (sign == "<=") return !less(b, a);
    if (sign == ">=") return !less(a, b);
    return contains(b, a) == (sign == "in");
  }

  Expression sum() {
    Expression left = concatenation();
    while (true) {
      const bool plus = reader_.take_sign("+");
      if (!plus && !reader_.take_sign("-")) return left;
      Expression right = concatenation();
      left = [=](const Variables& v) {
        return plus ? add(left(v), right(v)) : arithmetic('-', left(v), right(v));
      };
    }
  }

  Expression concatenation() {
    Expression left = product();
    while (reader_.take_sign("~")) {
      Expression right = product();
      left = [=](const Variables& v) {
        return bounded(printed(Evaluated(left, v)) + printed(Evaluated(right, v)));
      };
    }
    return left;
  }

  Expression product() {
    Expression left = unary();
    while (true) {
      char operation = '\0';
      for (const char* sign : {"*", "//", "/", "%"}) {
        if (operation == '\0' && reader_.take_sign(sign)) operation = sign[1] ? 'f' : sign[0];
      }
      if (operation == '\0') return left;
      Expression right = unary();
      left = [=](const Variables& v) { return arithmetic(operation, left(v), right(v)); };
    }
  }

  Expression unary() {
    if (reader_.take_sign("-")) {
      if (++depth_ > deepest_expression) reader_.refuse("an expression that is nested too deep");
      Expression value = unary();
      --depth_;
      return [=](const Variables& v) { return arithmetic('-', 0, value(v)); };
    }
    return filters(postfix(primary()));
  }

  Expression filters(Expression value) {
    while (true) {
      if (reader_.take_sign("|")) {
        const std::string name = reader_.expect_name();
        if (!is_filter(name)) reader_.refuse(fmt::format("filter '{}', not supported", name));
        const ArgumentExpressions arguments = call_arguments();
        value = [=](const Variables& v) {
          return filter(name, Evaluated(value, v), arguments.evaluate(v));
        };
      } else if (reader_.take_word("is")) {
        value = test_of(value);
      } else {
        return value;
      }
    }
  }

  Expression test_of(const Expression& value) {
    const bool wanted = !reader_.take_word("not");
    const std::string name = reader_.expect_name();
    if (!is_test(name)) reader_.refuse(fmt::format("test '{}', not supported", name));
    ArgumentExpressions arguments;
    const bool one = reader_.peek().kind == Kind::string || reader_.peek().kind == Kind::integer;
    if (one) {
      arguments.values.push_back(primary());  // "is equalto 'x'"
    } else {
      arguments = call_arguments();
    }
    return [=](const Variables& v) {
      return Value(test(name, Evaluated(value, v), arguments.evaluate(v)) == wanted);
    };
  }

  // (a, name=b), or nothing at all.
  ArgumentExpressions call_arguments() {
    ArgumentExpressions out;
    if (!reader_.take_sign("(")) return out;
    while (!reader_.take_sign(")")) {
      if (reader_.peek().kind == Kind::name && reader_.peek(1).kind == Kind::sign &&
          reader_.peek(1).value == "=") {
        const std::string name = reader_.expect_name();
        reader_.expect_sign("=");
        out.named[name] = conditional();
      } else {
        out.values.push_back(conditional());
      }
      if (!reader_.is(Kind::sign, ")")) reader_.expect_sign(",");
    }
    return out;
  }

  Expression postfix(Expression value) {
    while (true) {
      if (reader_.take_sign(".")) {
        const std::string name =
            reader_.peek().kind == Kind::integer ? reader_.next().value : reader_.expect_name();
        if (reader_.is(Kind::sign, "(")) {
          if (!is_method(name)) reader_.refuse(fmt::format("method '{}', not supported", name));
          const ArgumentExpressions arguments = call_arguments();
          value = [=](const Variables& v) {
            return method(name, Evaluated(value, v), arguments.evaluate(v));
          };
        } else {
          value = item_of(value, [=](const Variables&) { return Value(name); });
        }
      } else if (reader_.take_sign("[")) {
        value = subscript(value);
      } else {
        return value;
      }
    }
  }

  static Expression item_of(const Expression& value, const Expression& key) {
    return {[=](const Variables& v) { return item(Evaluated(value, v), Evaluated(key, v)); },
            [=](const Variables& v) -> const Value* {
              const Value* whole = value.place(v);
              return whole ? item_place(*whole, Evaluated(key, v)) : nullptr;
            }};
  }

  Expression subscript(const Expression& value) {
    Expression parts[3];
    size_t part = 0;
    while (!reader_.take_sign("]")) {
      if (reader_.take_sign(":")) {
        if (++part > 2) reader_.refuse("a slice with too many parts");
      } else {
        if (parts[part]) reader_.refuse("a subscript that is not understood");
        parts[part] = conditional();
      }
    }
    if (part == 0) {
      if (!parts[0]) reader_.refuse("an empty subscript");
      return item_of(value, parts[0]);
    }
    const auto given = [](const Expression& e, const Variables& v) { return e ? e(v) : Value(); };
    return [=, begin = parts[0], end = parts[1], step = parts[2]](const Variables& v) {
      return slice(Evaluated(value, v), given(begin, v), given(end, v), given(step, v));
    };
  }

  Expression primary() {
    const Token token = reader_.next();
    switch (token.kind) {
      case Kind::string: {
        std::string text = token.value;
        while (reader_.peek().kind == Kind::string) text += reader_.next().value;
        return constant(text);
      }
      case Kind::integer:
        if (token.value.size() > 18) reader_.refuse("a number that is too large");
        return constant(std::stoll(token.value));
      case Kind::real:
        return constant(std::strtod(token.value.c_str(), nullptr));
      case Kind::name:
        return name(token.value);
      case Kind::sign:
        if (token.value == "(") return parentheses();
        if (token.value == "[") return list("]");
        if (token.value == "{") return mapping();
        [[fallthrough]];
      default:
        reader_.refuse(fmt::format("'{}', where a value should be", token.value));
    }
  }

  static Expression constant(Value value) {
    return [value = std::move(value)](const Variables&) { return value; };
  }

  Expression name(const std::string& name) {
    if (name == "true" || name == "True") return constant(true);
    if (name == "false" || name == "False") return constant(false);
    if (name == "none" || name == "None") return constant(nullptr);
    if (!reader_.is(Kind::sign, "(")) {
      return {[=](const Variables& v) { return v.get(name); },
              [=](const Variables& v) { return &v.get(name); }};
    }
    if (name != "range" && name != "raise_exception" && name != "namespace" && name != "dict") {
      // A template may ask first whether there is such a function: refused when it is called.
      call_arguments();
      return [=](const Variables&) -> Value {
        throw InputError("function '{}' is not supported", name);
      };
    }
    const ArgumentExpressions arguments = call_arguments();
    return [=](const Variables& v) { return call(name, arguments.evaluate(v)); };
  }

  Expression parentheses() {
    Expression first = conditional();
    if (reader_.take_sign(")")) return first;
    reader_.expect_sign(",");
    return list(")", {first});
  }

  Expression list(std::string_view end, std::vector<Expression> elements = {}) {
    while (!reader_.take_sign(end)) {
      elements.push_back(conditional());
      if (!reader_.is(Kind::sign, end)) reader_.expect_sign(",");
    }
    return [=](const Variables& v) {
      Value out = Value::array();
      for (const Expression& element : elements) out.push_back(element(v));
      return out;
    };
  }

  Expression mapping() {
    std::vector<std::pair<Expression, Expression>> entries;
    while (!reader_.take_sign("}")) {
      Expression key = conditional();
      reader_.expect_sign(":");
      entries.emplace_back(key, conditional());
      if (!reader_.is(Kind::sign, "}")) reader_.expect_sign(",");
    }
    return [=](const Variables& v) {
      Value out = Value::object();
      for (const auto& [key, value] : entries) out[printed(key(v))] = value(v);
      return out;
    };
  }

  TokenReader& reader_;
  int depth_ = 0;
};

}  // namespace

Expression parse_expression(TokenReader& reader, bool conditional) {
  ExpressionParser parser(reader);
  return conditional ? parser.conditional() : parser.either();
}

}  // namespace tandem::text::jinja
