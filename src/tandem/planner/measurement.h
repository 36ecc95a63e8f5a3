// Workloads on this machine, and a device type made from what their operations took. Used by one
// thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tandem/planner/simulation.h"

namespace tandem {

// A workload on this machine, with one thread a rank, run again whenever the caller likes: what
// takes turns in the course of time is measured under the same conditions.
class Measurement {
 public:
  // Training changes the weights of the store, which has to outlive this.
  Measurement(ParameterStore& store, Plan plan, const Workload& work, int steps)
      : store_(store), plan_(std::move(plan)), work_(work), steps_(steps) {}

  // So many steps as given, after one that does not count.
  void run();

  const Plan& plan() const { return plan_; }
  const Workload& work() const { return work_; }
  // A mean, as that of operations in fit_operations(): medians do not add up to the median of a
  // sum.
  double step_seconds() const { return middle_mean(seconds_); }
  const std::vector<RankSpans>& spans() const { return spans_; }    // of all steps, rank by rank
  const std::vector<int32_t>& routing() const { return routing_; }  // Engine::routing(), first run

 private:
  struct Running;

  ParameterStore& store_;
  Plan plan_;
  Workload work_;
  int steps_;
  std::shared_ptr<Running> running_;
  std::vector<double> seconds_;
  std::vector<RankSpans> spans_;
  std::vector<int32_t> routing_;
};

// For each operation the speed under which a roofline comes closest to what its spans took on a
// rank that was alone: the least sum of |log(predicted / measured)|, sizes weighted by their time;
// then scaled so that all spans together take as long as they took. How much longer they take in a
// crowd follows from spans of ranks that worked all at once; those of operations not known alone
// are passed over.
std::map<std::string, OperationSpeed, std::less<>> fit_operations(
    const std::vector<RankSpans>& alone, const std::vector<RankSpans>& crowded);

// Seconds from a send to its receipt between two threads of this process.
double message_latency_seconds();

}  // namespace tandem
