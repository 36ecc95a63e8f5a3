#include "tandem/text/jinja/program.h"

#include "tandem/base/error.h"

namespace tandem::text::jinja {

namespace {

using Kind = Token::Kind;

constexpr int deepest_block = 100;         // blocks in blocks
constexpr int64_t most_steps = 1'000'000;  // of one run: templates are programs of strangers

class ProgramParser {
 public:
  explicit ProgramParser(TokenReader& reader) : reader_(reader) {}

  Statement program() {
    Statement all = body({});
    if (reader_.peek().kind != Kind::end) reader_.refuse("a block that was not begun ends here");
    return all;
  }

 private:
  // Statements up to a block of one of these names, which is left to the caller.
  Statement body(const std::vector<std::string_view>& ends) {
    if (++depth_ > deepest_block) reader_.refuse("blocks that are nested too deep");
    std::vector<Statement> statements;
    while (reader_.peek().kind != Kind::end && !at_block(ends)) statements.push_back(statement());
    --depth_;
    return [=](Run& run) {
      for (const Statement& each : statements) {
        if (++run.steps > most_steps) throw InputError("the template takes too many steps");
        each(run);
      }
    };
  }

  bool at_block(const std::vector<std::string_view>& names) const {
    if (reader_.peek().kind != Kind::block_begin) return false;
    for (const std::string_view name : names) {
      if (reader_.peek(1).kind == Kind::name && reader_.peek(1).value == name) return true;
    }
    return false;
  }

  void end_block() { reader_.expect(Kind::block_end, "%}"); }
  void close(std::string_view name) {
    reader_.expect(Kind::block_begin, fmt::format("{{% {} %}}", name));
    if (!reader_.take_word(name)) reader_.refuse(fmt::format("no {{% {} %}}", name));
    end_block();
  }

  Statement statement() {
    const Token token = reader_.next();
    if (token.kind == Kind::text) return [=](Run& run) { run.out += token.value; };
    if (token.kind == Kind::print_begin) {
      Expression value = parse_expression(reader_);
      reader_.expect(Kind::print_end, "}}");
      return [=](Run& run) { run.out += printed(Evaluated(value, run.variables)); };
    }
    const std::string name = reader_.expect_name();
    if (name == "for") return loop();
    if (name == "if") return branch();
    if (name == "set") return assignment();
    if (name == "generation") {  // marks what to train on; the text is the same
      end_block();
      Statement inside = body({"endgeneration"});
      close("endgeneration");
      return inside;
    }
    reader_.refuse(fmt::format("block '{}', not supported here", name));
  }

  Statement branch() {
    Expression condition = parse_expression(reader_);
    end_block();
    Statement yes = body({"elif", "else", "endif"});
    Statement no = [](Run&) {};
    reader_.expect(Kind::block_begin, "{% endif %}");
    if (reader_.take_word("elif")) {
      if (++depth_ > deepest_block) reader_.refuse("too many elif");
      no = branch();
      --depth_;
    } else if (reader_.take_word("else")) {
      end_block();
      no = body({"endif"});
      close("endif");
    } else if (reader_.take_word("endif")) {
      end_block();
    } else {
      reader_.refuse("no {% endif %}");
    }
    return [=](Run& run) { truth(Evaluated(condition, run.variables)) ? yes(run) : no(run); };
  }

  Statement assignment() {
    const std::string name = reader_.expect_name();
    const std::string attribute = reader_.take_sign(".") ? reader_.expect_name() : "";
    if (!reader_.take_sign("=")) {  // {% set x %}...{% endset %}
      end_block();
      Statement inside = body({"endset"});
      close("endset");
      return [=](Run& run) {
        const std::string before = std::exchange(run.out, "");
        inside(run);
        run.variables.set(name, std::exchange(run.out, before));
      };
    }
    Expression value = parse_expression(reader_);
    end_block();
    return [=](Run& run) {
      if (attribute.empty()) {
        run.variables.set(name, value(run.variables));
      } else {
        run.variables.set_attribute(name, attribute, value(run.variables));
      }
    };
  }

  Statement loop() {
    std::vector<std::string> names = {reader_.expect_name()};
    while (reader_.take_sign(",")) names.push_back(reader_.expect_name());
    if (!reader_.take_word("in")) reader_.refuse("a for without in");
    Expression list = parse_expression(reader_, false);
    Expression condition;
    if (reader_.take_word("if")) condition = parse_expression(reader_);
    end_block();
    Statement inside = body({"else", "endfor"});
    Statement otherwise = [](Run&) {};
    if (at_block({"else"})) {
      reader_.next();
      reader_.next();
      end_block();
      otherwise = body({"endfor"});
    }
    close("endfor");
    return [=](Run& run) {
      const Value chosen = choose(run, elements(list(run.variables)), names, condition);
      if (chosen.empty()) return otherwise(run);
      for (size_t i = 0; i < chosen.size(); ++i) {
        Value scope = bind(names, chosen[i]);
        scope["loop"] = loop_value(i, chosen);
        run.variables.push(std::move(scope));
        inside(run);
        run.variables.pop();
      }
    };
  }

  static Value bind(const std::vector<std::string>& names, const Value& element) {
    Value scope = Value::object();
    if (names.size() == 1) {
      scope[names[0]] = element;
      return scope;
    }
    if (!element.is_array() || element.size() != names.size()) {
      throw InputError("a loop over elements that do not have {} parts", names.size());
    }
    for (size_t i = 0; i < names.size(); ++i) scope[names[i]] = element[i];
    return scope;
  }

  static Value choose(Run& run, const Value& list, const std::vector<std::string>& names,
                      const Expression& condition) {
    if (!condition) return list;
    Value chosen = Value::array();
    for (const Value& element : list) {
      run.variables.push(bind(names, element));
      if (truth(Evaluated(condition, run.variables))) chosen.push_back(element);
      run.variables.pop();
    }
    return chosen;
  }

  static Value loop_value(size_t i, const Value& list) {
    const size_t n = list.size();
    Value loop = {
        {"index", i + 1},  {"index0", i},        {"revindex", n - i}, {"revindex0", n - i - 1},
        {"first", i == 0}, {"last", i + 1 == n}, {"length", n}};
    if (i > 0) loop["previtem"] = list[i - 1];
    if (i + 1 < n) loop["nextitem"] = list[i + 1];
    return loop;
  }

  TokenReader& reader_;
  int depth_ = 0;
};

}  // namespace

Statement parse_program(std::string_view source, const std::string& name) {
  TokenReader reader(tokens_of(source, name), name);
  return ProgramParser(reader).program();
}

}  // namespace tandem::text::jinja
