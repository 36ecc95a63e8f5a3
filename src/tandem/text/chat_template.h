// How a conversation is written for a model: the Jinja template that its directory brings.
// docs/tokenizers.md lists what of Jinja there is.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tandem {

// May be used by any number of threads at once.
class ChatTemplate {
 public:
  // chat_template.jinja of a model directory, or "chat_template" of its tokenizer_config.json;
  // nothing where it has neither. InputError for one that is not understood.
  static std::optional<ChatTemplate> read(const std::filesystem::path& directory);
  // `name` is what messages call it.
  static ChatTemplate parse(std::string_view source, const std::string& name);

  // The text for {"messages": [{"role": ..., "content": ...}], "add_generation_prompt": true, ...}.
  // bos_token, eos_token and the like come from tokenizer_config.json where they are not given.
  // InputError with what the template objects to, e.g. roles that do not alternate.
  std::string render(const nlohmann::ordered_json& variables) const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

  std::shared_ptr<const Program> program_;
};

}  // namespace tandem
