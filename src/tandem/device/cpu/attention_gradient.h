// What happens to scores and gradients of probabilities between the products before and behind
// them, in the backward pass of bf16.
#pragma once

#include "tandem/device/cpu/attention_softmax.h"

namespace tandem::cpu {

// Of a block and up to 32 rows, a lane each. p = 2^(scale score - logsumexp), dropped, and
// ds = dscore_scale p (dp - delta); zero for positions that a row does not see or that are not
// there.
struct GradientStep {
  const BlockScores& scores;
  const BlockScores& dweights;          // dp, not yet dropped
  int64_t positions = kv_block_tokens;  // that are there
  const RowLine& seen;
  const RowLine& logsumexp;  // base 2
  const RowLine& delta;
  float scale = 1;                    // makes base-2 logarithms of scores
  const BlockScores* mask = nullptr;  // dropout
  float dscore_scale = 1;
  // bf16. Rows of panels, a line each for a position: rows as depth.
  std::byte *weights = nullptr, *dscores = nullptr;
  // A strip: positions as depth.
  std::byte* dscores_strip = nullptr;
};
void gradient_step(const GradientStep& step);

}  // namespace tandem::cpu
