// From rows to queries, keys and values, and what a model does to them before they are rotated:
// norms of single heads or of all at once, and bounds.
#pragma once

#include "tandem/runtime/rank.h"

namespace tandem {

struct Projection {
  Tensor weight, bias, norm;
  std::span<const int32_t> heads;  // for each of this rank's query heads, its head among those of y
  int64_t all_heads;               // of the model
  ProjectionActivations& kept;     // for the backward pass
  uint8_t phase;                   // of messages
};
Projection query_projection(Rank& rank, const AttentionParameters& w, LayerActivations& a);
Projection key_projection(Rank& rank, const AttentionParameters& w, LayerActivations& a);

// y = x weight^T + bias, normed and clipped.
Task<> project(Rank& rank, Track& on, Projection p, Tensor x, Tensor y);
// d: from the gradient of y to that of x weight^T + bias; adds to dnorm.
Task<> project_backward(Rank& rank, Track& on, Projection p, Tensor d, Tensor dnorm);

// Keeps y within the model's bounds; what it was before is for the backward pass.
void clip(const Rank& rank, const Track& on, const Tensor& y, Tensor& before);
void clip_backward(const Rank& rank, const Track& on, const Tensor& before, const Tensor& d);

}  // namespace tandem
