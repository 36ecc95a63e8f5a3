// From router logits to experts and back, and the sums of what experts return.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// probabilities[M,E] = softmax(logits[M,E]); experts[M,k] (i32), largest probability + bias[1,E]
// first, the lower number first among equals; weights[M,k] = their probabilities, divided by their
// sum if normalize; logsumexp[M,1]. All f32 but experts. probabilities and logsumexp may be empty
// (inference), and so may bias.
struct Route {
  static constexpr const char* name = "route";
  Tensor logits, bias, probabilities, logsumexp, experts, weights;
  bool normalize = false;
  // Which tokens these are, for a device that knows their experts beforehand.
  int64_t layer = 0;
  std::span<const uint64_t> keys;  // one a row
  Cost cost() const;
};

// dlogits[M,E] (f32) from dweights[M,k], plus the auxiliary losses: balance[groups,E] is the
// gradient of the load-balance loss with respect to a row's probabilities, for the row's group;
// z_scale * 2 * logsumexp * probabilities is added for the router z-loss.
struct RouteBackward {
  static constexpr const char* name = "route backward";
  Tensor probabilities, logsumexp, experts, dweights, dlogits;
  Tensor balance;                      // may be empty
  std::span<const int32_t> row_group;  // one a row; -1: the row has no auxiliary losses
  float z_scale = 0;
  bool normalize = false;
  Cost cost() const;
};

// out[0, 0] = sum over `rows` of balance[group] . probabilities, out[0, 1] = of logsumexp squared
// (f32); rows of group -1 left out.
struct RouterLoss {
  static constexpr const char* name = "router loss";
  Tensor probabilities, logsumexp, balance, out;
  std::span<const int32_t> row_group;
  Interval rows;
  Cost cost() const;
};

// One addend of a token's mixture: weights[token, slot] * row. slot < 0: the row as it is.
struct CombineTerm {
  RowRef row;
  int32_t slot = 0;
};

// out[t] (compute type or f32) = sum over terms[offsets[t] .. offsets[t+1]] in order.
struct Combine {
  static constexpr const char* name = "combine";
  std::span<const Tensor> sources;
  std::span<const CombineTerm> terms;
  std::span<const int32_t> offsets;  // M + 1
  Tensor weights, out;
  Cost cost() const;
};

// For each term i: gradient.rows[i] = weight * dout[t] and dweights[t, slot] += row . dout[t];
// dweights (f32 [M,k]) is zeroed first. dout is f32.
struct CombineBackward {
  static constexpr const char* name = "combine backward";
  std::span<const Tensor> sources;
  std::span<const CombineTerm> terms;
  std::span<const int32_t> offsets;
  Tensor weights, dout, dweights;
  RowList gradient;  // one row a term
  Cost cost() const;
};

}  // namespace tandem
