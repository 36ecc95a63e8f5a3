// Devices and links that slow or fail in the course of a simulated run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "planner/clusters.h"
#include "sanitized.h"
#include "tandem/planner/simulation.h"
#include "world/models.h"

namespace tandem::test {
namespace {

Prediction run(const char* plan, WorkKind kind, const std::vector<std::string>& faults,
               int steps = 2) {
  SimulationSettings settings{.steps = steps};
  for (const std::string& text : faults) settings.faults.push_back(parse_fault(text));
  const Workload work{.kind = kind, .sequences = 12, .context_tokens = 48};
  return simulate(small_model(), make_plan(plan, small_model()), small_cluster(), work, settings);
}

std::string at(const std::string& what, double seconds, double slow) {
  return fmt::format("{},at={},slow={}", what, seconds, slow);
}

double computing_seconds(const RankSpans& rank) {
  double sum = 0;
  for (const Span& span : rank.spans)
    if (span.lane == Lane::attention || span.lane == Lane::expert)
      sum += span.end_seconds - span.start_seconds;
  return sum;
}

constexpr const char* plans_to_disturb[] = {"single", "ep:ranks=8", "tp-pp:ranks=2,stages=2",
                                            "ma:attention=5,experts=3,micro_batches=2",
                                            "ma:attention=8,experts=8"};

// Of the last step: the slow rank computes for twice as long, the others as long as ever.
TEST(Faults, ASlowDeviceShowsOnItsRankAlone) {
  for (const char* plan : plans_to_disturb)
    for (const WorkKind kind : work_kinds) {
      SCOPED_TRACE(fmt::format("{} {}", plan, static_cast<int>(kind)));
      const Prediction well = run(plan, kind, {});
      const int last = well.ranks() - 1;
      const Prediction ill =
          run(plan, kind, {at(fmt::format("rank:{}", last), well.steps_seconds[0] * 0.5, 2)});
      for (int rank = 0; rank <= last; ++rank)
        EXPECT_NEAR(computing_seconds(ill.spans[static_cast<size_t>(rank)]) /
                        computing_seconds(well.spans[static_cast<size_t>(rank)]),
                    rank == last ? 2 : 1, 1e-9)
            << rank;
      EXPECT_GT(ill.steps_seconds[1], well.steps_seconds[1]);
      EXPECT_EQ(ill.message_bytes, well.message_bytes);
    }
}

TEST(Faults, BeforeTheirTimeNothingChanges) {
  for (const char* what : {"rank:3", "link:device3", "link:node0", "link:node0-node1"}) {
    const Prediction well = run("ep:ranks=8", WorkKind::decode, {});
    const double end = well.steps_seconds[0] + well.steps_seconds[1];
    const Prediction ill =
        run("ep:ranks=8", WorkKind::decode, {at(what, well.steps_seconds[0] + 1e-12, 1e4)});
    EXPECT_EQ(ill.steps_seconds[0], well.steps_seconds[0]) << what;
    EXPECT_GT(ill.steps_seconds[1], well.steps_seconds[1]) << what;
    EXPECT_EQ(run("ep:ranks=8", WorkKind::decode, {at(what, end, 1e4)}).steps_seconds,
              well.steps_seconds)
        << what;
    EXPECT_EQ(run("ep:ranks=8", WorkKind::decode, {std::string(what) + ",at=1e9"}).steps_seconds,
              well.steps_seconds)
        << what;
  }
}

// More of the same ill, or the same one sooner, never makes a step faster, but for what comes of
// messages that meet on a link in another order: some thousandths where links are what slows.
TEST(Faults, NeverMakeARunFaster) {
  for (const char* plan : plans_to_disturb)
    for (const WorkKind kind : work_kinds) {
      const Prediction well = run(plan, kind, {});
      const double middle = well.steps_seconds[0] / 2;
      for (const char* what : {"rank:0", "device:3", "link:device0", "link:node0", "link:node1",
                               "link:leaf0", "link:node0-node1"}) {
        if (std::string(what).ends_with("3") && well.ranks() < 4) continue;
        if (sanitized && std::string(what).starts_with("link:node")) continue;
        SCOPED_TRACE(fmt::format("{} {} {}", plan, static_cast<int>(kind), what));
        const double least = std::string(what).starts_with("link") ? 0.99 : 1 - 1e-9;
        const double late = run(plan, kind, {at(what, middle, 2)}).step_seconds;
        const double soon = run(plan, kind, {at(what, 0, 2)}).step_seconds;
        const double worse = run(plan, kind, {at(what, 0, 4)}).step_seconds;
        EXPECT_GE(late, well.step_seconds * least);
        EXPECT_GE(soon, late * least);
        EXPECT_GE(worse, soon * least);
      }
    }
}

// All that a link carries while it is slow takes so many times as long; slow=1 ends it.
TEST(Faults, ASlowLinkShowsInWhatItCarries) {
  const Prediction well = run("ep:ranks=8", WorkKind::prefill, {}, 3);
  const double step = well.steps_seconds[0];
  const auto ill = [&](const char* what) {
    return run("ep:ranks=8", WorkKind::prefill,
               {at(what, step + 1e-12, 1000), at(what, 1.001 * step, 1)}, 3);
  };
  for (const char* what : {"link:node1", "link:node0-node1", "link:device5"}) {
    const Prediction p = ill(what);
    EXPECT_EQ(p.steps_seconds[0], step) << what;
    EXPECT_NEAR(p.steps_seconds[2], well.steps_seconds[2], 1e-3 * step) << what;
  }
  EXPECT_EQ(ill("link:node2-node3").step_seconds, well.step_seconds);  // nobody sits there
}

TEST(Faults, NameWhatIsMissing) {
  const auto failure = [](const char* plan, const char* fault) {
    try {
      run(plan, WorkKind::decode, {fault});
    } catch (const WorldError& error) {
      return std::string(error.what());
    }
    return std::string("went on");
  };
  // Ranks 4 to 7 are on node 1.
  for (const char* fault : {"link:node0-node1", "link:node1", "link:device4"})
    EXPECT_THAT(failure("ep:ranks=8", fault),
                testing::ContainsRegex("layer 0, .*from rank [4-7]: peer lost"));
  EXPECT_EQ(failure("ep:ranks=8", "link:node2"), "went on");
}

// The longest step is the one in which a device falls silent; what is routed stays as it was.
TEST(Losses, AreGotOverUnderEveryPlan) {
  for (const char* plan : plans_to_disturb)
    for (const WorkKind kind : work_kinds) {
      const Prediction well = run(plan, kind, {}, 4);
      for (const int rank : {0, well.ranks() / 2, well.ranks() - 1}) {
        SCOPED_TRACE(fmt::format("{} {} rank {}", plan, static_cast<int>(kind), rank));
        const double middle = 1.5 * well.steps_seconds[0];
        const Prediction ill = run(plan, kind, {fmt::format("rank:{},at={}", rank, middle)}, 4);
        EXPECT_EQ(ill.lost_devices, 1);
        EXPECT_EQ(ill.steps_seconds[0], well.steps_seconds[0]);
        // Where it had done its part of the step already, the next one misses it.
        const bool later = ill.steps_seconds[1] < silent_seconds * 0.99;
        EXPECT_GT(ill.steps_seconds[later ? 2 : 1], silent_seconds * 0.99);
        EXPECT_LT(ill.steps_seconds[3], silent_seconds / 2);
        EXPECT_GE(ill.stall_seconds(), silent_seconds * 0.99);
        EXPECT_EQ(ill.expert_tokens, well.expert_tokens);
      }
    }
}

TEST(Losses, OfManyOneAfterTheOther) {
  std::vector<std::string> faults;
  for (int device = 0; device < 7; ++device)
    faults.push_back(fmt::format("device:{},at={}", device, 0.5 * device));
  for (const char* plan : {"ma:attention=4,experts=4,sequence=2", "tp:ranks=8"}) {
    const Prediction ill = run(plan, WorkKind::decode, faults, 12);
    EXPECT_GE(ill.lost_devices, 1);
    EXPECT_EQ(ill.failures, 7);
    EXPECT_EQ(ill.expert_tokens, run(plan, WorkKind::decode, {}, 12).expert_tokens);
  }
}

// Half of the devices at once, one of each pair that mirrors the other; the rest does the work of
// all, and holds what all held.
TEST(Losses, RanksThatShareADeviceTakeTurns) {
  const char* plan = "ma:attention=8,experts=8,sequence=2";
  std::vector<std::string> faults;
  for (int group = 0; group < 4; ++group) {
    faults.push_back(fmt::format("rank:{}", group));
    faults.push_back(fmt::format("rank:{}", 8 + group));
  }
  const Prediction well = run(plan, WorkKind::decode, {}, 3),
                   ill = run(plan, WorkKind::decode, faults, 3);
  EXPECT_EQ(ill.lost_devices, 8);
  EXPECT_GT(ill.steps_seconds[2], 1.2 * well.steps_seconds[2]);
  EXPECT_GT(ill.fullest().all(), 1.5 * static_cast<double>(well.fullest().all()));
  for (const RankSpans& rank : ill.spans) {
    if (!rank.attention) continue;
    const RankSpans& mirror = ill.spans[static_cast<size_t>((rank.rank + 4) % 8)];
    for (const Span& own : rank.spans)
      for (const Span& other : mirror.spans) {
        if (!computes(own) || !computes(other)) continue;
        EXPECT_TRUE(own.end_seconds <= other.start_seconds + 1e-12 ||
                    other.end_seconds <= own.start_seconds + 1e-12);
      }
  }
}

// Half the speed, twice the time; a replica on the device leaves nothing to read.
TEST(Losses, ReadingWeightsTakesAsLongAsTheStorageSays) {
  const auto stall = [](const char* plan, double bytes_per_second) {
    Cluster cluster = small_cluster();
    for (Node& node : cluster.nodes) node.storage_bytes_per_second = bytes_per_second;
    const Workload work{.sequences = 12, .context_tokens = 48};
    return simulate(small_model(), make_plan(plan, small_model()), cluster, work,
                    {.steps = 3, .faults = {parse_fault("rank:3,at=1e-4")}})
        .stall_seconds();
  };
  const char* alone = "ma:attention=2,experts=2";
  const double at_once = stall(alone, 0), fast = stall(alone, 1e6), slow = stall(alone, 5e5);
  EXPECT_GT(fast, at_once);
  EXPECT_NEAR(slow - at_once, 2 * (fast - at_once), 1e-3 * slow);
  const char* replicated = "ma:attention=2,experts=2,replicas=2";
  EXPECT_NEAR(stall(replicated, 5e5), stall(replicated, 0), 1e-9);
}

TEST(Losses, OfAllDevicesStopTheRun) {
  std::vector<std::string> faults;
  for (int device = 0; device < 16; ++device) faults.push_back(fmt::format("device:{}", device));
  EXPECT_THROW(run("tp:ranks=4", WorkKind::decode, faults), WorldError);
}

}  // namespace
}  // namespace tandem::test
