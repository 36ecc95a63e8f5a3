// RMSNorm over the heads of several ranks at once (queries and keys of OLMoE), and bounds on what
// comes out. Each rank norms the columns of its own heads; squares of all heads tell by how much.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// out[i, row] (f32) = sum of squares of head `heads[i]` of that row; x f32 [M, some heads * d].
struct HeadSquares {
  static constexpr const char* name = "head squares";
  Tensor x, out;
  std::span<const int32_t> heads;
  int64_t head_dim = 0;
  Cost cost() const;
};

// y (compute type) = scale x weight, with scale[M,1] = 1 / sqrt(mean square + epsilon). The mean is
// over the heads whose sums of squares (f32 [heads, M]) are given, in their order; x, weight and y
// have the columns of this rank. scale is kept for the backward pass, or empty.
struct SplitNorm {
  static constexpr const char* name = "split norm";
  Tensor x, weight, squares, y, scale;
  int64_t head_dim = 0;
  float epsilon = 1e-5f;
  Cost cost() const;
};

// out[0, row] (f32) = dy . scale x weight, over the columns of this rank. dy f32.
struct SplitNormProduct {
  static constexpr const char* name = "split norm product";
  Tensor x, weight, scale, dy, out;
  Cost cost() const;
};

// dx (f32) = gradient of x, from dy (f32) and the products of all ranks (f32 [ranks, M]), added up
// in their order; width: columns on all ranks. What goes through the mean belongs to a head once:
// shares[h] of it is this rank's. dweight (f32 [1, columns]) += sums over the rows.
struct SplitNormBackward {
  static constexpr const char* name = "split norm backward";
  Tensor x, weight, scale, dy, products, dx, dweight;
  std::span<const float> shares;  // one a head of this rank
  int64_t width = 0;
  Cost cost() const;
};

// x = x within +-limit, in place.
struct Clip {
  static constexpr const char* name = "clip";
  Tensor x;
  float limit = 0;
  Cost cost() const;
};

// dx = 0 where x, before it was clipped, was beyond the limit.
struct ClipBackward {
  static constexpr const char* name = "clip backward";
  Tensor x, dx;
  float limit = 0;
  Cost cost() const;
};

}  // namespace tandem
