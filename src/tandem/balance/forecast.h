// How long a step would take under a plan, from what its ranks would have to do. Safe to use from
// one thread at a time.
#pragma once

#include <vector>

#include "tandem/balance/time_model.h"

namespace tandem {

// The time models must outlive it.
struct Forecast {
  const TimeModel* attention = nullptr;
  const TimeModel* experts = nullptr;
  const TimeModel* apart = nullptr;
  std::vector<double> slowness;  // by rank; of the median device: 1

  double attention_seconds(int rank, const LayerWork& work) const {
    return attention->seconds(work, slowness[rank]);
  }
  double expert_seconds(int rank, const LayerWork& work) const {
    return experts->seconds(work, slowness[rank]);
  }
  double apart_seconds(int rank, const LayerWork& work) const {
    return apart->seconds(work, slowness[rank]);
  }
};

struct StepForecast {
  double seconds = 0;
  // Sums over layers of the slowest rank's time in each.
  double attention_seconds = 0, expert_seconds = 0;
};

// Attention and experts of a micro-batch take turns in every layer, each as slow as its slowest
// rank; with m micro-batches in flight a step takes at least an m-th of that, and no less than its
// busiest rank needs. What is done outside of layers comes before or after. Messages are not
// counted: they are alike under the plans that are compared.
StepForecast forecast_step(const Plan& plan, const ModelConfig& model, const StepLoad& load,
                           const Forecast& forecast);

}  // namespace tandem
