// Products of matrices, and the experts that are made of them. Conventions: operations.h.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// y[M,N] = x[M,K] weight[N,K]^T (+ bias[1,N]) ; y += ... with accumulate.
// x has the compute type; y has it or is f32.
struct Linear {
  static constexpr const char* name = "linear";
  Tensor x, weight, bias, y;
  bool accumulate = false;
  Cost cost() const;
};

// dx[M,K] (+)= dy[M,N] weight[N,K]. dy has the compute type; dx has it or is f32.
struct LinearInputGradient {
  static constexpr const char* name = "linear input gradient";
  Tensor dy, weight, dx;
  bool accumulate = false;
  Cost cost() const;
};

// dweight[N,K] += dy[M,N]^T x[M,K], dbias[1,N] += column sums of dy. Gradients are f32.
struct LinearWeightGradient {
  static constexpr const char* name = "linear weight gradient";
  Tensor dy, x, dweight, dbias;
  Cost cost() const;
};

// Columns (or rows) of head h of a tensor: width of them, from first + h * step on.
struct HeadSlices {
  int64_t first = 0, width = 0, step = 0;
  Interval of(int64_t head) const { return Interval{0, width}.shifted(first + head * step); }
};

// A product for each head: y_h = x_h weight_h^T, or x_h weight_h where `transposed`. weight_h are
// some rows of the weight, x_h and y_h some columns; there are weight.rows / weight_rows.step
// heads.
struct HeadLinear {
  static constexpr const char* name = "head linear";
  Tensor x, weight, y;
  HeadSlices x_columns, weight_rows, y_columns;
  bool transposed = false;
  int64_t heads() const { return weight.rows / weight_rows.step; }
  Cost cost() const;
};

// dweight_h += dy_h^T x_h; f32.
struct HeadLinearWeightGradient {
  static constexpr const char* name = "head linear weight gradient";
  Tensor dy, x, dweight;
  HeadSlices dy_columns, x_columns, weight_rows;
  int64_t heads() const { return dweight.rows / weight_rows.step; }
  Cost cost() const;
};

enum class Activation : uint8_t { silu, gelu, gelu_tanh };

// Matrices of one expert: down[H,F] act(up[F,H] x), or down (act(gate x) * up x) where there is a
// gate.
struct ExpertMatrices {
  Tensor gate, up, down;
  int64_t first_feature = 0;  // of its hidden features in the whole expert (dropout)
};

// A grouped product: rows offsets[e] .. offsets[e+1] of `in` go through expert e. `in.rows` are
// sorted by expert; row i of the result is written to row i of `out` (compute type). gate, up:
// pre-activations [P,F] kept for the backward pass; both empty in inference (gate is empty as well
// for experts without one). Dropout masks the hidden features.
struct Experts {
  static constexpr const char* name = "experts";
  static constexpr const char* name_with_dropout = "experts with dropout";
  RowList in, out;
  std::span<const int32_t> offsets;
  std::span<const ExpertMatrices> weights;
  Activation activation = Activation::silu;
  Tensor gate, up;
  Dropout dropout;
  Cost cost() const;
};

// dx rows = gradient of the rows of `in`, from dy rows; adds to the f32 gradients of the matrices.
struct ExpertsBackward {
  static constexpr const char* name = "experts backward";
  RowList in, dy, dx;
  std::span<const int32_t> offsets;
  std::span<const ExpertMatrices> weights;
  std::span<const ExpertMatrices> gradients;  // f32
  Activation activation = Activation::silu;
  Tensor gate, up;  // pre-activations from Experts
  Dropout dropout;
  Cost cost() const;
};

}  // namespace tandem
