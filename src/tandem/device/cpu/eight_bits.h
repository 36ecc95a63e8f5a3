// Weights of 8 bits as bf16, for products that have no kernel of theirs: some of them become bf16
// in a buffer and are multiplied as such. A number becomes the nearest bf16 to number * factor,
// whatever view it is read through.
#pragma once

#include "tandem/device/cpu/scratch.h"
#include "tandem/device/tensor.h"

namespace tandem::cpu {

// Whether a weight's own kernel serves it: int8 whose blocks of depth are whole from its first
// column on.
bool multiplied_as_int8(const Tensor& weight);

// The weight itself unless it has 8 bits; else its numbers as bf16 in `scratch`.
Tensor widened(const Tensor& weight, Scratch& scratch, int threads);

}  // namespace tandem::cpu
