// Products with FP8 weights, plainly: some of the weights become bf16 in a buffer and are
// multiplied as such. A number becomes the nearest bf16 to number * factor, whatever view it is
// read through.
#pragma once

#include "tandem/device/cpu/scratch.h"
#include "tandem/device/tensor.h"

namespace tandem::cpu {

// The weight itself unless it is fp8; else its numbers as bf16 in `scratch`.
Tensor widened(const Tensor& weight, Scratch& scratch, int threads);

}  // namespace tandem::cpu
