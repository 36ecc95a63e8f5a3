// What updates parameters.
#pragma once

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// AdamW (Loshchilov & Hutter, 2019) on one view: master (f32) is updated and written to weight in
// the weight's dtype; both may be the same f32 view. gradient is scaled by gradient_scale first.
struct AdamW {
  static constexpr const char* name = "adamw";
  Tensor weight, master, first_moment, second_moment, gradient;
  float learning_rate = 1e-4f, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
  float gradient_scale = 1;
  int64_t step = 1;  // counts from 1
  Cost cost() const;
};

// out[0,0] (f32) = sum of squares of x (f32), summed in f64.
struct SquaredSum {
  static constexpr const char* name = "norm of gradient";
  Tensor x, out;
  Cost cost() const;
};

}  // namespace tandem
