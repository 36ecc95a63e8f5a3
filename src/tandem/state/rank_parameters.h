// The parameters of one rank, sorted by where the rank program uses them. The same shape of struct
// serves the weights and their gradients. A tensor that the rank or the model does not have is
// empty.
#pragma once

#include <functional>
#include <vector>

#include "tandem/device/operations.h"
#include "tandem/plan/layout.h"

namespace tandem {

struct AttentionParameters {
  Tensor norm, norm_bias;
  Tensor query, query_bias, key, key_bias, value, value_bias, output, output_bias;
  Tensor query_norm, key_norm;                                     // of heads
  Tensor query_latent, query_latent_norm, latent_norm, latent_up;  // latent attention
  Tensor expert_norm, expert_norm_bias, router, router_bias;
  ExpertMatrices shared;
  Tensor shared_router;
};

struct ExpertParameters {
  std::vector<int32_t> experts;  // numbers of the experts held, ascending
  std::vector<ExpertMatrices> matrices;
};

struct LayerParameters {
  AttentionParameters attention;
  ExpertParameters experts;
};

struct RankParameters {
  Tensor embedding, position, final_norm, final_norm_bias;
  Tensor head;  // the embedding's region where they are tied
  Interval layers;
  std::vector<LayerParameters> by_layer;

  const LayerParameters& layer(int64_t layer) const { return by_layer[layer - layers.begin]; }
};

// `tensor_of` gives the tensor of each region.
RankParameters arrange(const std::vector<Region>& held, const ModelConfig& model,
                       const Interval& layers, bool last_stage,
                       const std::function<Tensor(const Region&)>& tensor_of);

}  // namespace tandem
