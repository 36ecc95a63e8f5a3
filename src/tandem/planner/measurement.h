// Workloads on this machine, and a device type made from what their operations took. Used by one
// thread.
#pragma once

#include <vector>

#include "tandem/planner/simulation.h"

namespace tandem {

struct Measurement {
  std::vector<double> seconds;   // of each step
  std::vector<RankSpans> spans;  // of all measured steps
  std::vector<int32_t> routing;  // Engine::routing()

  // A mean, as that of operations in fit_operations(): medians do not add up to the median of a
  // sum.
  double step_seconds() const { return middle_mean(seconds); }
  // The same work measured again.
  void add(Measurement again);
};

// Runs the workload's steps for real, in this process; `rank_threads` for each rank. Training
// changes the store's weights.
Measurement measure(ParameterStore& store, const Plan& plan, const Workload& work, int rank_threads,
                    int steps);

// For each operation the FLOP/s, bytes/s and overhead under which a roofline comes closest to what
// its spans took: the least sum of |log(predicted / measured)|, sizes weighted by their time; then
// scaled so that all spans together take as long as they took.
std::map<std::string, OperationSpeed, std::less<>> fit_operations(
    const std::vector<RankSpans>& spans);

// Seconds from a send to its receipt between two threads of this process.
double message_latency_seconds();

}  // namespace tandem
