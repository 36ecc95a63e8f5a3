#include "tandem/state/rank_parameters.h"

#include <algorithm>

namespace tandem {
namespace {

using enum ParameterKind;

Tensor* attention_slot(AttentionParameters& p, ParameterKind kind) {
  switch (kind) {
    case attention_norm:
      return &p.norm;
    case attention_norm_bias:
      return &p.norm_bias;
    case query_latent:
      return &p.query_latent;
    case query_latent_norm:
      return &p.query_latent_norm;
    case latent_norm:
      return &p.latent_norm;
    case latent_up:
      return &p.latent_up;
    case query:
      return &p.query;
    case query_bias:
      return &p.query_bias;
    case key:
      return &p.key;
    case key_bias:
      return &p.key_bias;
    case value:
      return &p.value;
    case value_bias:
      return &p.value_bias;
    case query_norm:
      return &p.query_norm;
    case key_norm:
      return &p.key_norm;
    case attention_output:
      return &p.output;
    case attention_output_bias:
      return &p.output_bias;
    case expert_norm:
      return &p.expert_norm;
    case expert_norm_bias:
      return &p.expert_norm_bias;
    case router:
      return &p.router;
    case router_bias:
      return &p.router_bias;
    case shared_gate:
      return &p.shared.gate;
    case shared_up:
      return &p.shared.up;
    case shared_down:
      return &p.shared.down;
    case shared_router:
      return &p.shared_router;
    default:
      return nullptr;
  }
}

Tensor* global_slot(RankParameters& p, ParameterKind kind) {
  switch (kind) {
    case embedding:
      return &p.embedding;
    case position:
      return &p.position;
    case final_norm:
      return &p.final_norm;
    case final_norm_bias:
      return &p.final_norm_bias;
    case head:
      return &p.head;
    default:
      return nullptr;
  }
}

void put_expert(ExpertParameters& p, const Region& region, const Tensor& tensor) {
  const auto at = std::ranges::lower_bound(p.experts, region.id.expert);
  const auto index = at - p.experts.begin();
  if (at == p.experts.end() || *at != region.id.expert) {
    p.experts.insert(at, region.id.expert);
    p.matrices.insert(p.matrices.begin() + index, ExpertMatrices{});
  }
  ExpertMatrices& matrices = p.matrices[index];
  const bool down = region.id.kind == expert_down;
  matrices.first_feature = (down ? region.cols : region.rows).begin;
  (down ? matrices.down : region.id.kind == expert_up ? matrices.up : matrices.gate) = tensor;
}

}  // namespace

RankParameters arrange(const std::vector<Region>& held, const ModelConfig& model,
                       const Interval& layers, bool last_stage,
                       const std::function<Tensor(const Region&)>& tensor_of) {
  RankParameters result;
  result.layers = layers;
  result.by_layer.resize(layers.size());
  for (const Region& region : held) {
    Tensor tensor = tensor_of(region);
    if (region.id.layer < 0) {
      *global_slot(result, region.id.kind) = tensor;
      continue;
    }
    LayerParameters& layer = result.by_layer[region.id.layer - layers.begin];
    if (region.id.expert >= 0)
      put_expert(layer.experts, region, tensor);
    else
      *attention_slot(layer.attention, region.id.kind) = std::move(tensor);
  }
  if (model.tied_embeddings && last_stage) result.head = result.embedding;
  return result;
}

}  // namespace tandem
