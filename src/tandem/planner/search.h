// The best plans for a workload on a cluster: candidates, their floors, guesses, and simulations of
// the most promising. Used by one thread; simulations run in as many as there are cores.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tandem/planner/estimate.h"

namespace tandem {

struct SearchSettings {
  DType dtype = DType::bf16;
  double limit_seconds = 0;  // of a step; slower plans are left out; 0: none
  int simulated = 0;         // of all kinds together, each kind's best guesses among them; 0: as
                             // many as take about as long on any number of ranks
  int stage_layers = 3;      // SimulationSettings::stage_layers
  uint64_t seed = 0;
};

struct Candidate {
  std::string plan;  // shorthand
  std::string kind;  // tp, pp, tp-pp, ep, ma, single
  Estimate estimate;
  Prediction prediction;  // of those that were simulated
  bool simulated = false;

  double memory_bytes() const {  // of the fullest rank
    return simulated ? static_cast<double>(prediction.fullest().all()) : estimate.memory_bytes;
  }
  double seconds() const { return simulated ? prediction.step_seconds : estimate.step_seconds; }
};

struct SearchResult {
  std::vector<Candidate> ranked;   // simulated ones, fastest first; then the rest by their guess
  int64_t candidates = 0;          // looked at
  int64_t too_large = 0;           // do not fit into memory
  std::string smallest_too_large;  // "plan: needs X, device has Y", where none fits
};

// Shorthands of every plan worth a look on so many ranks. On more than 32 of them, sixteen ratios
// of attention to expert ranks are among them; neighbours() has what is in between.
std::vector<std::string> candidate_plans(const ModelConfig& model, int ranks);
// A separated plan with some more or fewer attention ranks: those that candidate_plans() leaves out
// on either side of it, with as many batch shards as there are now full sets of heads.
std::vector<std::string> neighbours(const std::string& plan, int ranks);

// InputError, with the numbers, where no plan fits into memory or keeps the limit.
SearchResult search(const ModelConfig& model, const Cluster& cluster, const Workload& work,
                    const SearchSettings& settings,
                    const std::function<void(int done, int all)>& progress = {});

}  // namespace tandem
