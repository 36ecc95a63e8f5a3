// What each rank of a plan has to do in a step, in the numbers that its time follows from. Pure
// functions, safe from any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "tandem/model/config.h"
#include "tandem/plan/plan.h"

namespace tandem {

// Of a mean step.
struct StepLoad {
  double tokens = 0;
  double context_tokens = 0;          // that a token attends to, on average
  std::vector<double> expert_tokens;  // [layer][expert]
};

// Of one rank in one layer: tokens with `held` heads, or pairs of token and expert with `held`
// experts, of which `active` have any.
struct LayerWork {
  double tokens = 0;
  double context_tokens = 0;  // attention alone
  double active = 0;          // attention: as held
  double held = 0;
  double hidden = 0;                          // the model's, of attention or of an expert
  bool empty() const { return held < 1e-9; }  // or what rounding leaves
};

struct PlanWork {
  // [rank][layer of the model]; empty where a rank has no part in a layer.
  std::vector<std::vector<LayerWork>> attention, experts;
  // Of each rank outside of all layers: tokens of its share of the vocabulary, and, for the
  // optimizer, the heads (active) and experts (held) of all layers.
  std::vector<LayerWork> apart;
};

// Of a rank with so many heads in a layer of a stage.
LayerWork attention_work(const Plan& plan, const Stage& stage, const ModelConfig& model,
                         const StepLoad& load, int heads);
PlanWork work_of(const Plan& plan, const ModelConfig& model, const StepLoad& load);

// Tokens of each replica of the experts of one layer, and how many experts have any in a step of so
// many tokens: adds them up for one rank.
class ExpertShare {
 public:
  ExpertShare(double step_tokens, const double* expert_tokens)
      : step_tokens_(step_tokens), expert_tokens_(expert_tokens) {}
  double tokens(size_t expert, size_t replicas) const {
    return expert_tokens_[expert] / static_cast<double>(replicas);
  }
  // The chance that a replica has a token.
  double active(size_t expert, size_t replicas) const;

 private:
  double step_tokens_;
  const double* expert_tokens_;
};

}  // namespace tandem
