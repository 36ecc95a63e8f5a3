// From router logits to experts and back, and the sums of what experts return.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// How logits become what experts are chosen and weighted by.
struct Router {
  bool sigmoid = false;  // of each logit, rather than the softmax over all
  bool normalize = false;
  float scale = 1;
  // The experts are this many groups of neighbours. Only the best few groups are chosen from: a
  // group is as good as its best expert, or with a bias as its best two together (DeepSeek-V2,
  // section 2.2.2; V3, section 2.1.2).
  int64_t groups = 1, chosen_groups = 1;
};

// probabilities[M,E] = softmax (or sigmoid) of logits[M,E]; experts[M,k] (i32), largest probability
// + bias[1,E] first, the lower number first among equals; weights[M,k] = their probabilities,
// divided by their sum if normalize, times scale; logsumexp[M,1] (0 with sigmoid). All f32 but
// experts. probabilities and logsumexp may be empty (inference), and so may bias.
struct Route {
  static constexpr const char* name = "route";
  Tensor logits, bias, probabilities, logsumexp, experts, weights;
  Router router;
  // Which tokens these are, for a device that knows their experts beforehand.
  int64_t layer = 0;
  std::span<const uint64_t> keys;  // one a row
  Cost cost() const;
};

// dlogits[M,E] (f32) from dweights[M,k], plus the auxiliary losses: balance[groups,E] is the
// gradient of the load-balance loss with respect to a row's probabilities (divided by their sum,
// with sigmoid), for the row's group; z_scale * 2 * logsumexp * probabilities is added for the
// router z-loss.
struct RouteBackward {
  static constexpr const char* name = "route backward";
  Tensor probabilities, logsumexp, experts, dweights, dlogits;
  Tensor balance;                      // may be empty
  std::span<const int32_t> row_group;  // one a row; -1: the row has no auxiliary losses
  float z_scale = 0;
  Router router;
  Cost cost() const;
};

// out[0, 0] = sum over `rows` of balance[group] . probabilities / their sum, out[0, 1] = of
// logsumexp squared (f32); rows of group -1 left out.
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
