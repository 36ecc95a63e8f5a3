// The model that a server answers for, as the API knows it.
#pragma once

#include <optional>
#include <string>

#include "tandem/model/config.h"
#include "tandem/text/chat_template.h"
#include "tandem/text/model_text.h"

namespace tandem {

// Everything may be used by any number of threads at once.
struct ServedModel {
  std::string name;
  ModelConfig config;
  ModelText text;
  std::optional<ChatTemplate> chat;
  int64_t context_tokens = 0;   // prompt and answer together
  int64_t created_seconds = 0;  // of Unix time
};

}  // namespace tandem
