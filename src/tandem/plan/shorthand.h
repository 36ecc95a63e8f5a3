// Plans in one line: single | tp:ranks=8 | pp:stages=2 | tp-pp:ranks=8,stages=2 | ep:ranks=16 |
// ma:attention=12,experts=4,sequence=1,batch=1; each also takes micro_batches=, copies=, exchange=,
// and where there are experts to place, replicas= and split=; ma and ep take stages= as well, ep
// also sequence= and batch= (as many shards as ranks unless given). ma:...,mixed=1 spreads the two
// groups evenly over the ranks: with 12:4, ranks 3, 7, 11 and 15 hold the experts.
#pragma once

#include <string>

#include "tandem/model/config.h"
#include "tandem/plan/plan.h"

namespace tandem {

// The validated plan of a shorthand or of a plan file (YAML), whichever `text` is. InputError names
// what is wrong.
Plan make_plan(const std::string& text, const ModelConfig& model);
Plan plan_from_shorthand(const std::string& text, const ModelConfig& model);

// What a shorthand boils down to; the same building block for every strategy.
struct StageShape {
  int attention_ranks = 1;
  int expert_ranks = 1;
  bool shared_ranks = true;  // experts live on the attention ranks
  bool mixed = false;        // else attention ranks come first
  int batch_shards = 1;
  int sequence_shards = 1;
  int replicas = 1;  // of each expert
  int split = 1;     // ranks each replica is split over
  Exchange exchange = Exchange::heads;
};
// `count` heads over `groups`, the larger shares first: 32 over 12 is 3 x 8, 2 x 4.
std::vector<int> deal_heads(int64_t heads, int groups);
ExpertPlacement place_experts(int64_t experts, int first_rank, int ranks, int replicas, int split,
                              Exchange exchange);
Plan build_plan(const ModelConfig& model, const StageShape& shape, int stages);

}  // namespace tandem
