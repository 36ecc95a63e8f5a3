#include "tandem/planner/crowding.h"

#include <gtest/gtest.h>

#include "planner/clusters.h"
#include "tandem/planner/simulation.h"
#include "world/models.h"

namespace tandem::test {
namespace {

Span span(const char* name, Lane lane, double begin, double end) {
  return {.name = name, .lane = lane, .start_seconds = begin, .end_seconds = end};
}

TEST(Crowding, CountsWhoIsBusyOnTheSameNode) {
  const std::vector<RankSpans> ranks = {
      {.spans = {span("a", Lane::attention, 0, 4), span("wait", Lane::wait, 4, 8),
                 span("b", Lane::attention, 8, 10), span("a", Lane::attention, 20, 24)}},
      {.rank = 1, .spans = {span("c", Lane::expert, 2, 9)}},
      {.rank = 2, .spans = {span("c", Lane::expert, 0, 100)}},
  };
  Cluster cluster = small_cluster();  // four devices a node: three others
  const auto crowding = crowding_of(ranks, cluster, {0, 1, 4});
  EXPECT_DOUBLE_EQ(crowding[0].at("a"), 2 / 8.0 / 3);
  EXPECT_DOUBLE_EQ(crowding[0].at("b"), 1 / 2.0 / 3);
  EXPECT_EQ(crowding[0].size(), 2u);
  EXPECT_DOUBLE_EQ(crowding[1].at("c"), 3 / 7.0 / 3);
  EXPECT_TRUE(crowding[2].empty());
}

// Ranks that work at the same time slow one another, those that take turns do not, nor those on
// different nodes.
TEST(Crowding, SlowsWhoWorksAtTheSameTime) {
  Cluster cluster = small_cluster();
  cluster.nodes.assign(
      2,
      {.devices = {0, 0}, .inside = {.bytes_per_second = 1e15}, .nic = {.bytes_per_second = 1e15}});
  const Workload work{.kind = WorkKind::prefill, .sequences = 4, .context_tokens = 48};
  const auto slowdown = [&](const char* plan, std::vector<int> devices) {
    double seconds[2] = {};
    for (const int crowded : {0, 1}) {
      for (const char* name : {"experts", "attention", "linear"})
        cluster.types[0].operations[name] = {1e15, 1e9, 0, 1, 1.0 + crowded};
      seconds[crowded] = simulate(small_model(), make_plan(plan, small_model()), cluster, work,
                                  {.devices = devices})
                             .step_seconds;
    }
    return seconds[1] / seconds[0];
  };
  EXPECT_NEAR(slowdown("tp:ranks=2", {0, 1}), 2, 0.1);
  EXPECT_NEAR(slowdown("tp:ranks=2", {0, 2}), 1, 1e-12);
  EXPECT_NEAR(slowdown("ma:attention=1,experts=1", {0, 1}), 1, 0.01);
  EXPECT_GT(slowdown("ma:attention=1,experts=1,micro_batches=2", {0, 1}), 1.2);
}

}  // namespace
}  // namespace tandem::test
