// The bodies of /v1/completions and /v1/chat/completions, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/device/operations.h"
#include "tandem/serve/api_error.h"
#include "tandem/serve/served_model.h"

namespace tandem {

struct CompletionRequest {
  bool chat = false;
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::string> echoed;  // a text for each prompt; empty unless asked for
  int64_t choices = 1;              // for each prompt
  std::vector<int64_t> max_tokens;  // for each prompt
  Sampling sampling;                // choice k of a prompt draws with seed + k
  bool ignores_end = false;         // goes on behind the end token
  std::vector<std::string> stops;
  std::optional<int> top_logprobs;  // none: no log probabilities at all
  bool stream = false;
  bool stream_usage = false;
};

// ApiError naming the field. `seed` is for requests that bring none.
CompletionRequest parse_completion(const Json& body, const ServedModel& model, uint64_t seed);
CompletionRequest parse_chat(const Json& body, const ServedModel& model, uint64_t seed);

}  // namespace tandem
