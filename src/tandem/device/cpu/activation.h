// What happens between an expert's products, and its derivative. Each element is computed by the
// same instructions wherever it stands.
#pragma once

#include <cstdint>

#include "tandem/device/operations.h"

namespace tandem::cpu {

// h = act(gate) * up * scale. Without a gate: act(up) * scale. Without scale: 1.
struct Hidden {
  Activation activation = Activation::silu;
  const float* gate = nullptr;
  const float* up = nullptr;
  const float* scale = nullptr;
  int64_t count = 0;               // of a row
  int64_t rows = 1, row_step = 0;  // in numbers, of all arrays
};
void hidden(const Hidden& in, float* h);

// h once more, of one row, and the gradients of gate (unused without one) and up from that of h.
void hidden_backward(const Hidden& in, const float* dh, float* h, float* dgate, float* dup);

}  // namespace tandem::cpu
