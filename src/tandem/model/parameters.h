// The parameters of a model: what each is, its name in a checkpoint and its shape [rows, cols]
// (row-major; vectors are [1, n]; matrices are [out, in]).
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "tandem/model/config.h"

namespace tandem {

enum class ParameterKind : uint8_t {
  embedding,       // [vocab, H]
  position,        // [max_positions, H], learned positions alone
  attention_norm,  // [1, H]
  attention_norm_bias,
  query_latent,       // [query latent, H]; this and the next three: latent attention alone
  query_latent_norm,  // [1, query latent]
  latent_norm,        // [1, latent]
  latent_up,          // [heads * (unrotated + value), latent]: a head's keys, then its values
  query,              // [heads * d, H or query latent]
  query_bias,
  key,  // [kv_heads * d, H]; [latent + rotary, H] with latent attention, which has no value
  key_bias,
  value,
  value_bias,
  query_norm,  // [1, d], where heads are normed; [1, heads * d], where all are at once
  key_norm,
  attention_output,  // [H, heads * output_dim]
  attention_output_bias,
  expert_norm,  // [1, H]
  expert_norm_bias,
  router,       // [experts, H]
  router_bias,  // [1, experts], where the choice of experts has one
  expert_gate,  // [F, H], gated experts alone
  expert_up,    // [F, H]
  expert_down,  // [H, F]
  shared_gate,  // as an expert's; where a layer has none, its network for all tokens
  shared_up,
  shared_down,
  shared_router,  // [1, H], where the shared expert's result is weighted
  final_norm,
  final_norm_bias,
  head,  // [vocab, H]; absent where embeddings are tied
};

struct ParameterId {
  ParameterKind kind = ParameterKind::embedding;
  int32_t layer = -1;
  int32_t expert = -1;
  friend auto operator<=>(const ParameterId&, const ParameterId&) = default;
};

struct Parameter {
  ParameterId id;
  std::string name;  // in a checkpoint; empty: none has it, and it is zero (a dense model's router)
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t elements() const { return rows * cols; }
  bool is_vector() const;  // a norm or a bias: stored with one dimension; no weight decay
  std::vector<int64_t> stored_shape() const;
};

// All parameters, in a fixed order.
std::vector<Parameter> parameters(const ModelConfig& config);
// Exact for every valid configuration; a configuration of absurd sizes gives a huge number.
int64_t parameter_count(const ModelConfig& config);

}  // namespace tandem
