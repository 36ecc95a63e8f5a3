// The best plans for a workload on a cluster: candidates, their floors, guesses, and simulations of
// the most promising. Used by one thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tandem/planner/estimate.h"

namespace tandem {

struct SearchSettings {
  DType dtype = DType::bf16;
  double tpot_limit_seconds = 0;  // decode: slower plans are left out; 0: none
  int simulated = 64;             // of all kinds together; each kind's best guesses are among them
  uint64_t seed = 0;
};

struct Candidate {
  std::string plan;  // shorthand
  std::string kind;  // tp, pp, tp-pp, ep, ma, single
  Estimate estimate;
  Prediction prediction;  // of those that were simulated
  bool simulated = false;

  double seconds() const { return simulated ? prediction.step_seconds : estimate.step_seconds; }
};

struct SearchResult {
  std::vector<Candidate> ranked;   // simulated ones, fastest first; then the rest by their guess
  int64_t candidates = 0;          // looked at
  int64_t too_large = 0;           // do not fit into memory
  std::string smallest_too_large;  // "plan: needs X, device has Y", where none fits
};

// Shorthands of every plan worth a look on so many ranks.
std::vector<std::string> candidate_plans(const ModelConfig& model, int ranks);

// InputError, with the numbers, where no plan fits into memory or keeps the limit.
SearchResult search(const ModelConfig& model, const Cluster& cluster, const Workload& work,
                    const SearchSettings& settings,
                    const std::function<void(int done, int all)>& progress = {});

}  // namespace tandem
