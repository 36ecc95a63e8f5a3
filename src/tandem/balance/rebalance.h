// A better plan for what ranks have been seen to do: heads between head groups, experts and
// replicas between expert ranks, ranks between the two groups.
#pragma once

#include "tandem/balance/forecast.h"
#include "tandem/balance/recent_moves.h"

namespace tandem {

// Attention ranks of a stage.
struct AttentionBounds {
  int least = 1;
  int most = 1 << 20;
};

class Rebalance {
 public:
  // All must outlive it.
  Rebalance(const ModelConfig& model, const StepLoad& load, const Forecast& forecast,
            const RecentMoves& recent, const AttentionBounds& bounds)
      : model_(model), load_(load), forecast_(forecast), recent_(recent), bounds_(bounds) {}

  // The best that is found from `plan` on, which it may be itself. It has the same ranks; only
  // experts that are whole on one rank move, and one head group or batch shard at most changes its
  // role: models know little of plans that they have not seen.
  Plan improve(const Plan& plan) const;

 private:
  double seconds(const Plan& plan) const {
    return forecast_step(plan, model_, load_, forecast_).seconds;
  }
  Plan refined(const Plan& plan) const;
  Plan refined(Plan plan, bool counts_apart) const;
  void deal_heads(const Plan& plan, Stage& stage) const;
  // counts_apart: what an expert costs outside of layers counts as if within.
  void deal_experts(const Plan& plan, Stage& stage, const std::vector<int>& expert_ranks,
                    bool counts_apart) const;
  // With one head group (or batch shard) less, or more; nothing where that cannot be.
  std::vector<Plan> with_more_experts(const Plan& plan, size_t stage) const;
  std::vector<Plan> with_more_attention(const Plan& plan, size_t stage) const;

  const ModelConfig& model_;
  const StepLoad& load_;
  const Forecast& forecast_;
  const RecentMoves& recent_;
  const AttentionBounds& bounds_;
};

// ---- one layer's experts (place_layer.cc) ----
struct LayerPlacementProblem {
  int64_t layer = 0;
  std::vector<int> ranks;  // that may hold experts
  ExpertShare share;
  size_t copies = 1;
  double expert_hidden = 0;
  bool counts_apart = false;
  const Forecast* forecast = nullptr;
  const RecentMoves* recent = nullptr;
};
// Moves and swaps replicas, and gives one expert's spare replica to another, while that makes the
// slowest rank faster. Every expert on a rank that is not among problem.ranks moves first.
ExpertPlacement place_layer(const LayerPlacementProblem& problem, const ExpertPlacement& today);

}  // namespace tandem
