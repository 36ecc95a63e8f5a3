// Operations on rows as they are: norms, copies, sums, the residual stream, initial values.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

enum class NormKind : uint8_t { rms, layer };

// y (compute type) = norm(x) * weight (+ bias); x f32. Where weight has fewer columns than x, each
// piece of as many columns (a head) is normed by itself with the one weight. statistics: f32
// [M, 2 a piece] (mean, 1/deviation), kept for the backward pass, or empty.
struct Norm {
  static constexpr const char* name = "norm";
  NormKind kind = NormKind::rms;
  float epsilon = 1e-5f;
  Tensor x, weight, bias, y, statistics;
  Cost cost() const;
};

// dx (f32) += gradient, from dy (f32); dweight, dbias (f32 [1,H]) += sums over the rows
// `weight_rows` alone.
struct NormBackward {
  static constexpr const char* name = "norm backward";
  NormKind kind = NormKind::rms;
  Tensor x, weight, statistics, dy, dx, dweight, dbias;
  Interval weight_rows;
  Cost cost() const;
};

// to[to_rows[i]] = from[from_rows[i]], with conversion of dtype. An empty index means 0, 1, 2, ...
// Copying a view onto itself does nothing.
struct CopyRows {
  static constexpr const char* name = "copy";
  Tensor from, to;
  std::span<const int32_t> from_rows, to_rows;
  int64_t count() const;
  Cost cost() const;
};

// to[to_rows[i]] += from[from_rows[i]], in order of i; to is f32.
struct AddRows {
  static constexpr const char* name = "add";
  Tensor from, to;
  std::span<const int32_t> from_rows, to_rows;
  int64_t count() const;
  Cost cost() const;
};

// out = sum of inputs in their order, computed in f32; same shapes, any dtypes; out may be
// inputs[0].
struct Sum {
  static constexpr const char* name = "sum";
  std::span<const Tensor> inputs;
  Tensor out;
  Cost cost() const;
};

// residual (f32) += dropout(y).
struct AddResidual {
  static constexpr const char* name = "residual";
  static constexpr const char* name_with_dropout = "residual with dropout";
  Tensor y, residual;
  Dropout dropout;
  Cost cost() const;
};

// dy (compute type or f32) = mask of the same dropout times dresidual (f32).
struct ResidualBackward {
  static constexpr const char* name = "residual backward";
  Tensor dresidual, dy;
  Dropout dropout;
  Cost cost() const;
};

// 8 bits (with factors, from a whole block of rows on) = the nearest to `from` (f32), each block
// scaled so that its largest number is the largest there is.
struct Quantise {
  static constexpr const char* name = "quantise";
  Tensor from, to;
  Cost cost() const;
};

// y = 1 / (1 + e^-x), f32 both.
struct Sigmoid {
  static constexpr const char* name = "sigmoid";
  Tensor x, y;
  Cost cost() const;
};

// dx = dy y (1 - y), f32 all.
struct SigmoidBackward {
  static constexpr const char* name = "sigmoid backward";
  Tensor y, dy, dx;
  Cost cost() const;
};

struct Zero {
  static constexpr const char* name = "zero";
  Tensor x;
  Cost cost() const;
};

// x[i,j] = deviation * normal number (first_row + i) * full_cols + first_col + j of stream
// `source`.
struct FillNormal {
  static constexpr const char* name = "initialise";
  Tensor x;
  float deviation = 0.02f;
  uint64_t seed = 0;
  uint64_t item = 0;  // which parameter
  int64_t first_row = 0, first_col = 0, full_cols = 0;
  Cost cost() const;
};

}  // namespace tandem
