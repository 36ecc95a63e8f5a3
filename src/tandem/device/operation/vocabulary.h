// Logits: their loss over slices of the vocabulary, and drawing from them.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// For a slice of the vocabulary: statistics[M,3] (f32) = max, sum of exp(logit - max), logit of the
// target (0 where targets[i] lies outside the slice). targets are columns of the slice.
struct VocabularyStatistics {
  static constexpr const char* name = "softmax statistics";
  Tensor logits, statistics;
  std::span<const int32_t> targets;
  Cost cost() const;
};

// Joins the statistics of all slices, in order: loss[M,2] (f32) = logsumexp, -log probability of
// the target (0 where row_weights[i] is 0).
struct JoinStatistics {
  static constexpr const char* name = "join statistics";
  std::span<const Tensor> parts;
  std::span<const float> row_weights;
  Tensor loss;
  Cost cost() const;
};

// dlogits (compute type) = row_weights[i] * (softmax - one hot) on the slice.
struct VocabularyGradient {
  static constexpr const char* name = "softmax gradient";
  Tensor logits, loss, dlogits;
  std::span<const int32_t> targets;
  std::span<const float> row_weights;
  Cost cost() const;
};

// temperature 0 takes the largest logit (the lower id among equals). Otherwise: divide by
// temperature, keep the top_k largest (0: all), then the fewest that reach probability top_p, draw
// with uniform number (seed, position) of the sampling stream.
struct Sampling {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  uint64_t seed = 0;
  int64_t position = 0;
};

// tokens[i,0] (i32) from the whole row of logits: slices[j] holds the columns of slice j in order.
struct Sample {
  static constexpr const char* name = "sample";
  std::span<const Tensor> slices;  // f32, each [M, part of V]
  std::span<const Sampling> rows;
  Tensor tokens;
  Cost cost() const;
};

}  // namespace tandem
