// Workloads on this machine, and a device type made from what their operations took. Used by one
// thread.
#pragma once

#include <vector>

#include "tandem/planner/simulation.h"

namespace tandem {

struct Measurement {
  double step_seconds = 0;       // median
  std::vector<RankSpans> spans;  // of all measured steps
  std::vector<int32_t> routing;  // Engine::routing(); inference alone
};

// Runs the workload's steps for real, in this process; `rank_threads` for each rank. Training
// changes the store's weights.
Measurement measure(ParameterStore& store, const Plan& plan, const Workload& work, int rank_threads,
                    int steps);

// For each operation the FLOP/s, bytes/s and overhead under which a roofline comes closest to what
// its spans took: the least sum of |log(predicted / measured)|, sizes weighted by their time.
std::map<std::string, OperationSpeed, std::less<>> fit_operations(
    const std::vector<RankSpans>& spans);

// Seconds from a send to its receipt between two threads of this process.
double message_latency_seconds();

}  // namespace tandem
