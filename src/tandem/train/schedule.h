// The learning rate as a pure function of the step.
#pragma once

#include <cstdint>

namespace tandem {

// Linear warm-up to `peak` at step warmup_steps - 1, then half a cosine down to peak * min_ratio at
// step total_steps - 1, and that value from there on. Steps count from 0.
struct LearningRate {
  double peak = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
  double min_ratio = 0.1;

  void validate() const;  // InputError naming the field
  double at(int64_t step) const;
};

}  // namespace tandem
