// What a plan costs in closed form: a floor that no run can beat, memory, and a guess at the time
// that ranks candidates before the simulator settles the best of them. Pure functions, safe from
// any thread.
//
// Experts are taken as equally loaded. T_attention, T_moe and T_exchange of a micro-batch and layer
// become a step as in MegaScale-Infer (2025), section 4: with m micro-batches in flight a layer
// takes max(m max(T_attention, T_moe, T_exchange), T_attention + T_moe + 2 T_exchange), sums in
// place of maxima where the same ranks do both.
#pragma once

#include <string>

#include "tandem/planner/simulation.h"

namespace tandem {

struct Estimate {
  double step_seconds = 0;
  double floor_seconds = 0;
  std::string bound_by;     // of the floor: "attention ranks: memory", ...
  double memory_bytes = 0;  // of the fullest rank: weights, K/V, most of its activations; training:
                            // gradients, optimizer
  double memory_limit_bytes = 0;  // of its device

  bool fits() const { return memory_bytes <= memory_limit_bytes; }
};

Estimate estimate(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
                  const Workload& work, DType dtype);

}  // namespace tandem
