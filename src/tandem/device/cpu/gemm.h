// Matrix products behind Linear, its gradients and the experts. All are made of the blocks of
// blocks.h by one of three kernels: AMX tiles or AVX-512 dot products for bf16, f32 for all else.
// Weights are read where they lie; what is packed is the activations, and a few rows of weights at
// a time.
#pragma once

#include <optional>

#include "tandem/base/interval.h"
#include "tandem/device/tensor.h"

namespace tandem::cpu {

enum class Bf16Path : uint8_t { amx, avx512, as_f32 };

bool bf16_path_supported(Bf16Path path);
// The fastest supported path, or the one that was set.
Bf16Path bf16_path();
// For tests, and for measuring what other processors would do. Not thread safe: call it while no
// operation runs. An unsupported path is a broken invariant.
void set_bf16_path(std::optional<Bf16Path> path);

}  // namespace tandem::cpu
