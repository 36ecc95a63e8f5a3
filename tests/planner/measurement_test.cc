#include "tandem/planner/measurement.h"

#include <gtest/gtest.h>

#include <cmath>

#include "world/models.h"

namespace tandem::test {
namespace {

// Spans that took what a roofline says are described by that roofline.
TEST(FitOperations, FindsWhatSpansWereMadeOf) {
  const DeviceType made{.flops_per_second = {{"f32", 1}},
                        .operations = {{"linear", {2e11, 1e10, 4e-6}}, {"norm", {1e10, 1e9, 0}}}};
  RankSpans spans;
  for (const auto& [name, speed] : made.operations)
    for (double size = 1; size < 1e6; size *= 3)
      for (const double flops_a_byte : {1.0, 10.0, 100.0}) {
        const Cost cost{.flops = 1000 * size * flops_a_byte, .bytes = 1000 * size};
        const double seconds =
            std::max(cost.flops / speed.flops_per_second, cost.bytes / speed.bytes_per_second) +
            speed.overhead_seconds;
        spans.spans.push_back({.name = name == "linear" ? "linear" : "norm",
                               .lane = Lane::expert,
                               .end_seconds = seconds,
                               .cost = cost});
      }
  const auto fitted = fit_operations({spans});
  ASSERT_EQ(fitted.size(), 2u);
  for (const auto& [name, speed] : made.operations) {
    const OperationSpeed& f = fitted.at(name);
    EXPECT_NEAR(std::log(f.flops_per_second / speed.flops_per_second), 0, 0.1) << name;
    EXPECT_NEAR(std::log(f.bytes_per_second / speed.bytes_per_second), 0, 0.1) << name;
  }
  EXPECT_NEAR(fitted.at("linear").overhead_seconds, 4e-6, 1e-6);
}

TEST(Measure, RunsWhatItIsAskedFor) {
  ParameterStore store = random_store(small_model(), DType::f32);
  for (const WorkKind kind :
       {WorkKind::decode, WorkKind::prefill, WorkKind::train, WorkKind::mixed}) {
    const Workload work{
        .kind = kind, .sequences = 3, .context_tokens = 10, .prompts = 2, .chunk_tokens = 5};
    const Plan plan = make_plan("ma:attention=2,experts=1,micro_batches=2", small_model());
    const Measurement m = measure(store, plan, work, 1, 2);
    EXPECT_GT(m.step_seconds(), 0);
    ASSERT_EQ(m.spans.size(), 3u);
    for (const RankSpans& rank : m.spans) EXPECT_FALSE(rank.spans.empty());
    // Two steps, four layers, two experts a token.
    EXPECT_EQ(std::ssize(m.routing), work.tokens() * 2 * 4 * 5);
  }
}

TEST(MessageLatency, IsPositive) { EXPECT_GT(message_latency_seconds(), 0); }

}  // namespace
}  // namespace tandem::test
