// What a model makes of some tokens, to hold two models against each other.
#pragma once

#include <vector>

#include "tandem/world/engine.h"

namespace tandem {

inline std::vector<float> logits_of(Engine& engine) {
  engine.plan_memory(1, 16);
  SequenceTokens work;
  for (int32_t i = 0; i < 12; ++i) work.tokens.push_back(i * 7 % 96);
  const Sampled sampled = engine.infer({&work, 1}, true);
  const float* row = sampled.logits.row<float>(0);
  return {row, row + engine.model().vocab_size};
}

}  // namespace tandem
