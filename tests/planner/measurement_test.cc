#include "tandem/planner/measurement.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/cost/operation_cost.h"
#include "world/models.h"

namespace tandem::test {
namespace {

// Of all sizes, one after the other, as a rank that others crowd by so much takes for them.
RankSpans spans_of(const DeviceType& type, const std::vector<const char*>& operations,
                   double crowding) {
  RankSpans rank;
  for (const char* name : operations)
    for (double size = 1; size < 1e6; size *= 3)
      for (const double flops_a_byte : {1.0, 10.0, 100.0}) {
        const Cost cost{.flops = 1000 * size * flops_a_byte, .bytes = 1000 * size};
        rank.spans.push_back({.name = name,
                              .lane = Lane::expert,
                              .end_seconds = operation_seconds(type, name, "f32", cost, crowding),
                              .cost = cost});
      }
  return rank;
}

// Spans that took what a roofline says are described by that roofline.
TEST(FitOperations, FindsWhatSpansWereMadeOf) {
  const DeviceType made{.flops_per_second = {{"f32", 1}},
                        .operations = {{"linear", {2e11, 1e10, 4e-6, 0.5, 1.25}},
                                       {"norm", {1e10, 1e9, 0, 1, 2}},
                                       {"copy", {1e10, 1e9, 0, 0, 1}}}};
  const RankSpans alone = spans_of(made, {"linear", "norm", "copy"}, 0);
  const RankSpans crowded = spans_of(made, {"linear", "norm", "zero"}, 1);
  const auto fitted = fit_operations({alone}, {crowded, crowded});
  ASSERT_EQ(fitted.size(), 3u);
  for (const auto& [name, speed] : made.operations) {
    const OperationSpeed& f = fitted.at(name);
    EXPECT_NEAR(std::log(f.flops_per_second / speed.flops_per_second), 0, 0.1) << name;
    EXPECT_NEAR(std::log(f.bytes_per_second / speed.bytes_per_second), 0, 0.1) << name;
    EXPECT_EQ(f.hidden, speed.hidden) << name;
    EXPECT_NEAR(f.crowded, speed.crowded, 0.02) << name;
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
    Measurement m(store, plan, work, 2);
    for (int run = 1; run <= 2; ++run) {
      m.run();
      EXPECT_GT(m.step_seconds(), 0);
      ASSERT_EQ(std::ssize(m.spans()), run * 3);
      for (const RankSpans& rank : m.spans()) EXPECT_FALSE(rank.spans.empty());
      // Three steps of the first run, four layers, two experts a token.
      EXPECT_EQ(std::ssize(m.routing()), work.tokens() * 3 * 4 * 5);
    }
  }
}

TEST(MessageLatency, IsPositive) { EXPECT_GT(message_latency_seconds(), 0); }

}  // namespace
}  // namespace tandem::test
