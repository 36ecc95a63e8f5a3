// A workload under a plan on a described cluster: what a simulated run says about it. Functions
// that may run in different threads at once.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "tandem/planner/routing.h"
#include "tandem/planner/workload.h"
#include "tandem/trace/metrics.h"
#include "tandem/world/engine.h"
#include "tandem/world/sim_world.h"

namespace tandem {

// Joules of a group of ranks in one step.
struct Energy {
  double attention_joules = 0, expert_joules = 0;
  double joules() const { return attention_joules + expert_joules; }
};

// Of a rank.
struct Memory {
  int64_t parameters = 0, kv_cache = 0, optimizer = 0, gradients = 0;
  int64_t activations = 0;  // with message buffers and tables
  double limit_bytes = 0;   // of its device

  int64_t all() const;
};

// The components of Memory: as keys of results, and as people call them.
struct MemoryPart {
  const char* name;
  const char* title;
  int64_t Memory::*bytes;
};
inline constexpr MemoryPart memory_parts[] = {
    {"parameters", "parameters", &Memory::parameters},
    {"kv_cache", "K/V cache", &Memory::kv_cache},
    {"activations", "activations", &Memory::activations},
    {"gradients", "gradients", &Memory::gradients},
    {"optimizer", "optimizer", &Memory::optimizer},
};
inline int64_t Memory::all() const {
  int64_t sum = 0;
  for (const MemoryPart& part : memory_parts) sum += this->*part.bytes;
  return sum;
}

struct Prediction {
  double step_seconds = 0;            // mean
  std::vector<double> steps_seconds;  // each
  double floor_seconds = 0;  // of the slowest rank, at its device's peaks: no step can be faster
  Metrics metrics;
  Energy energy;  // of a step
  // By rank; of ranks that a loss has brought together on a device, the sum of them all.
  std::vector<Memory> memory;
  double idle_watts = 0, price_per_hour = 0;    // of all ranks' devices
  double bandwidth_share = 0, flops_share = 0;  // of all ranks' peaks, over the last step
  int failures = 0;                             // of devices, that were asked for
  int lost_devices = 0;                         // with ranks that have since been seated elsewhere
  size_t layers = 0;
  std::vector<int64_t> expert_tokens;  // [layers, experts], of all steps
  std::vector<RankSpans> spans;        // of the last step
  int64_t events = 0, messages = 0, message_bytes = 0;

  int ranks() const { return static_cast<int>(spans.size()); }
  // By how much the longest step is longer than most.
  double stall_seconds() const {
    std::vector<double> ordered = steps_seconds;
    std::ranges::sort(ordered);
    return ordered.back() - ordered[(ordered.size() - 1) / 2];
  }
  // Of the rank that has least room left, as a share of what its device has.
  const Memory& fullest() const {
    return *std::ranges::max_element(
        memory, {}, [](const Memory& m) { return static_cast<double>(m.all()) / m.limit_bytes; });
  }
  bool fits() const { return static_cast<double>(fullest().all()) <= fullest().limit_bytes; }
  double joules_per_token(const Workload& work) const {
    return energy.joules() / static_cast<double>(work.tokens());
  }
  double price_per_million_tokens(const Workload& work) const {
    return price_per_hour / 3600 / tokens_per_second(work) * 1e6;
  }
  double tokens_per_second(const Workload& work) const {
    return static_cast<double>(work.tokens()) / step_seconds;
  }
};

struct SimulationSettings {
  DType dtype = DType::bf16;
  // Most layers a stage that are simulated; 0: all. Where a stage has more, everything is taken as
  // growing evenly from a stack with two layers less to this one, and on (extrapolate.h).
  int stage_layers = 0;
  int steps = 1;
  std::string routing = "uniform";  // make_routing()
  Routing recorded;                 // in its place, if set
  uint64_t seed = 0;
  std::vector<int> devices;                    // of the cluster, by rank; empty: in order
  std::function<void(Engine&)> between_steps;  // may do something to the engine; may be empty
  std::vector<Fault> faults;                   // counted from the start of the first step
};

// InputError where plan, model, workload and cluster do not fit together, WorldError where ranks
// wait for each other for ever, or for what a link has lost. A failed device is got over: its ranks
// go on in other seats (SimWorld), in training with the step that was under way.
Prediction simulate(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
                    const Workload& work, const SimulationSettings& settings);

}  // namespace tandem
