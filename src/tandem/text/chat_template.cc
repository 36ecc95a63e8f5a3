#include "tandem/text/chat_template.h"

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"
#include "tandem/text/jinja/program.h"
#include "tandem/text/utf8.h"

namespace tandem {

namespace fs = std::filesystem;
using text::jinja::Value;

struct ChatTemplate::Program {
  std::string name;
  text::jinja::Statement run;
  Value tokens = Value::object();  // bos_token and the like
};

namespace {

// "</s>" or {"content": "</s>", ...}
Value special_tokens(const nlohmann::json& config) {
  Value tokens = Value::object();
  for (const char* name : {"bos_token", "eos_token", "pad_token", "unk_token"}) {
    const auto it = config.find(name);
    if (it == config.end()) continue;
    const nlohmann::json& token =
        it->is_object() && it->contains("content") ? (*it)["content"] : *it;
    if (token.is_string()) tokens[name] = token.get<std::string>();
  }
  return tokens;
}

// A template, or a list of named ones of which "default" is for conversations.
std::optional<std::string> source_in(const nlohmann::json& config, const std::string& where) {
  const auto it = config.find("chat_template");
  if (it == config.end() || it->is_null()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  if (it->is_array()) {
    for (const nlohmann::json& each : *it) {
      if (each.is_object() && each.value("name", nlohmann::json()) == "default" &&
          each.contains("template") && each["template"].is_string()) {
        return each["template"].get<std::string>();
      }
    }
  }
  throw InputError("{}: chat_template must be a template or a list with one named default", where);
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::read(const fs::path& directory) {
  const fs::path config_file = directory / "tokenizer_config.json";
  const fs::path own_file = directory / "chat_template.jinja";
  std::error_code error;
  nlohmann::json config = nlohmann::json::object();
  if (fs::exists(config_file, error)) {
    config = parse_json(read_text(config_file, largest_json_bytes), config_file.string());
    if (!config.is_object()) throw InputError("{}: must be a JSON object", config_file.string());
  }
  std::optional<std::string> source;
  std::string name = config_file.string() + ": chat_template";
  if (fs::exists(own_file, error)) {
    name = own_file.string();
    source = read_text(own_file, largest_json_bytes);
  } else {
    source = source_in(config, config_file.string());
  }
  if (!source) return std::nullopt;
  ChatTemplate out = parse(*source, name);
  auto program = std::make_shared<Program>(*out.program_);
  program->tokens = special_tokens(config);
  out.program_ = std::move(program);
  return out;
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name) {
  if (text::valid_prefix(source) != source.size()) throw InputError("{}: not UTF-8", name);
  auto program = std::make_shared<Program>();
  program->name = name;
  program->run = text::jinja::parse_program(source, name);
  return ChatTemplate(std::move(program));
}

std::string ChatTemplate::render(const nlohmann::ordered_json& variables) const {
  Value globals = program_->tokens;
  for (const auto& [name, value] : variables.items()) globals[name] = value;
  text::jinja::Run run{.variables = text::jinja::Variables(std::move(globals))};
  try {
    program_->run(run);
  } catch (const InputError& e) {
    throw InputError("{}: {}", program_->name, e.what());
  }
  return std::move(run.out);
}

}  // namespace tandem
