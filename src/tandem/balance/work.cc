#include "tandem/balance/work.h"

#include <cmath>

namespace tandem {

double ExpertShare::active(size_t expert, size_t replicas) const {
  if (step_tokens_ <= 0) return 0;
  const double share = std::min(1.0, tokens(expert, replicas) / step_tokens_);
  return 1 - std::pow(1 - share, step_tokens_);
}

LayerWork attention_work(const Plan& plan, const Stage& stage, const ModelConfig& model,
                         const StepLoad& load, int heads) {
  const AttentionGrid& grid = stage.attention;
  const double shares = plan.copies * grid.batch_shards * grid.sequence_shards;
  return {.tokens = load.tokens / shares,
          .context_tokens = load.context_tokens,
          .active = static_cast<double>(heads),
          .held = static_cast<double>(heads),
          .hidden = static_cast<double>(model.hidden_size)};
}

namespace {

void add_attention(const Plan& plan, const ModelConfig& model, const StepLoad& load,
                   const Role& role, std::vector<LayerWork>& layers) {
  const Stage& stage = plan.stages[role.stage];
  const int heads = stage.attention.heads[role.place.group];
  for (int64_t layer = stage.layers.begin; layer < stage.layers.end; ++layer)
    layers[layer] = attention_work(plan, stage, model, load, heads);
}

void add_experts(const Plan& plan, const ModelConfig& model, const StepLoad& load, const Role& role,
                 std::vector<LayerWork>& layers) {
  const Stage& stage = plan.stages[role.stage];
  for (int64_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
    if (!model.has_experts(layer)) continue;
    const ExpertPlacement& placement = stage.placement(layer);
    const ExpertShare share(load.tokens / plan.copies, &load.expert_tokens[layer * model.experts]);
    LayerWork& work = layers[layer];
    work.hidden = static_cast<double>(model.expert_hidden);
    for (size_t expert = 0; expert < placement.size(); ++expert)
      for (const ExpertReplica& replica : placement[expert]) {
        if (std::ranges::find(replica.ranks, role.local_rank) == replica.ranks.end()) continue;
        const auto replicas = placement[expert].size() * static_cast<size_t>(plan.copies);
        const double part = 1 / static_cast<double>(replica.ranks.size());
        work.tokens += share.tokens(expert, replicas) * part;
        work.active += share.active(expert, replicas) * part;
        work.held += part;
      }
  }
}

}  // namespace

PlanWork work_of(const Plan& plan, const ModelConfig& model, const StepLoad& load) {
  PlanWork work;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const Role role = role_of(plan, rank);
    auto& attention = work.attention.emplace_back(model.layers);
    auto& experts = work.experts.emplace_back(model.layers);
    if (role.attention) add_attention(plan, model, load, role, attention);
    if (role.expert) add_experts(plan, model, load, role, experts);
    LayerWork& apart = work.apart.emplace_back(LayerWork{.held = 1});
    if (role.attention)
      apart.tokens =
          load.tokens / static_cast<double>(plan.stages[role.stage].attention.ranks.size());
    for (const LayerWork& layer : attention) apart.active += layer.held;
    for (const LayerWork& layer : experts) apart.held += layer.held;
  }
  return work;
}

}  // namespace tandem
