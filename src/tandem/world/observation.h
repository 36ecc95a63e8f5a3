// What the steps of an engine have told about its ranks.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem {

struct Observation {
  int64_t steps = 0;
  double tokens = 0;
  double contexts = 0;  // sum over tokens of the positions each attends to
  // Seconds of operations, [rank][layer of the model + 1][step]; at 0 those of no layer
  // (vocabulary, optimizer). Shorter where a rank has nothing of the last layers.
  using Seconds = std::vector<std::vector<std::vector<double>>>;
  Seconds attention_seconds, expert_seconds;
  std::vector<int64_t> expert_tokens;  // [layer][expert]
};

}  // namespace tandem
