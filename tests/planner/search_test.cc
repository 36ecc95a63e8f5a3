#include "tandem/planner/search.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tandem/plan/shorthand.h"
#include "tandem/planner/sensitivity.h"

namespace tandem {
namespace {

ModelConfig paper_model() {
  return read_config(TANDEM_SOURCE_DIR "/configs/models/ma-4096/config.json");
}
Cluster paper_cluster() { return read_cluster(TANDEM_SOURCE_DIR "/configs/clusters/a100-16.yaml"); }

// The closed form is what the simulator is pruned by: it may never promise less time than needed.
TEST(Estimate, FloorIsBelowEverySimulation) {
  const ModelConfig model = paper_model();
  const Cluster cluster = paper_cluster();
  for (const WorkKind kind : {WorkKind::decode, WorkKind::prefill, WorkKind::train})
    for (const char* plan :
         {"single", "tp:ranks=8", "tp-pp:ranks=8,stages=2,micro_batches=4", "ep:ranks=16",
          "ep:ranks=16,batch=4", "pp:stages=4,micro_batches=2", "ep:ranks=8,copies=2",
          "ma:attention=8,experts=8", "ma:attention=8,experts=8,batch=8,micro_batches=2",
          "ma:attention=12,experts=4", "ma:attention=5,experts=11,micro_batches=3",
          "ma:attention=8,experts=8,sequence=2,exchange=sums,split=2"})
      for (const int64_t sequences : {16, 64}) {
        const Workload work{.kind = kind,
                            .sequences = sequences,
                            .context_tokens = kind == WorkKind::decode ? 1500 : 32};
        const Plan p = make_plan(plan, model);
        const Estimate e = estimate(model, p, cluster, work, DType::bf16);
        const Prediction s = simulate(model, p, cluster, work, {});
        EXPECT_LE(e.floor_seconds, s.step_seconds) << plan << " of " << sequences;
        EXPECT_LE(e.floor_seconds, s.floor_seconds * 1.02)
            << plan << " of " << sequences << ", kind " << static_cast<int>(kind);
        EXPECT_LE(e.floor_seconds, e.step_seconds);
      }
}

// Plans are refused by the closed form's memory before anything is simulated: it may miss some, and
// never counts more than a run needs.
TEST(Estimate, MemoryIsNearTheSimulation) {
  const ModelConfig model = paper_model();
  for (const WorkKind kind : {WorkKind::decode, WorkKind::prefill, WorkKind::train})
    for (const char* plan :
         {"single", "tp:ranks=8", "ep:ranks=16", "ep:ranks=16,batch=4",
          "tp-pp:ranks=4,stages=2,micro_batches=2", "ma:attention=8,experts=8,batch=8",
          "ma:attention=12,experts=4,micro_batches=2", "ma:attention=4,experts=12,exchange=sums"}) {
      const Workload work{
          .kind = kind, .sequences = kind == WorkKind::decode ? 1024 : 64, .context_tokens = 512};
      const Plan p = make_plan(plan, model);
      const Estimate e = estimate(model, p, paper_cluster(), work, DType::bf16);
      const Prediction run = simulate(model, p, paper_cluster(), work, {});
      const Memory& m = run.fullest();
      const double ratio = e.memory_bytes / static_cast<double>(m.all());
      EXPECT_LE(ratio, 1.02) << plan << ", kind " << static_cast<int>(kind);
      EXPECT_GE(ratio, 0.75) << plan << ", kind " << static_cast<int>(kind);
    }
}

// All-reduces across nodes take two steps in the runs, and so in the closed form: what another
// layer takes, since the vocabulary's exchanges are not in it.
TEST(Estimate, FollowsCollectivesInTwoSteps) {
  Cluster slow = paper_cluster();
  for (Node& node : slow.nodes) node.nic.bytes_per_second /= 20;
  for (const char* text :
       {"tp:ranks=16", "tp:ranks=8,copies=2", "tp:ranks=8,copies=2,micro_batches=2"})
    for (const int64_t sequences : {64, 384}) {
      const Workload work{.sequences = sequences, .context_tokens = 256};
      double guess = 0, simulated = 0;
      for (const int64_t layers : {4, 8}) {
        ModelConfig model = paper_model();
        model.layers = layers;
        const double sign = layers == 8 ? 1 : -1;
        const Plan plan = make_plan(text, model);
        guess += sign * estimate(model, plan, slow, work, DType::bf16).step_seconds;
        simulated += sign * simulate(model, plan, slow, work, {}).step_seconds;
      }
      EXPECT_NEAR(guess / simulated, 1, 0.4) << text << " of " << sequences;
    }
}

TEST(Search, LooksAtEveryStrategy) {
  const std::vector<std::string> plans = candidate_plans(paper_model(), 16);
  EXPECT_GE(plans.size(), 2000u);
  for (const char* wanted :
       {"tp-pp:ranks=8,stages=2,micro_batches=4", "ep:ranks=16", "ma:attention=12,experts=4",
        "ma:attention=7,experts=9,micro_batches=2", "tp:ranks=16", "ep:ranks=8,copies=2"})
    EXPECT_NE(std::ranges::find(plans, wanted), plans.end()) << wanted;
}

// The papers' decode workload: 384 sequences at a mean context of 1024 (physics of their table),
// against TP=8, PP=2 with four micro-batches.
TEST(Search, SeparationBeatsThePapersBaseline) {
  const ModelConfig model = paper_model();
  const Cluster cluster = paper_cluster();
  const Workload work{.sequences = 384, .context_tokens = 1024};
  const SearchResult result = search(model, cluster, work, {});
  const auto best = std::ranges::find(result.ranked, "ma", &Candidate::kind);
  ASSERT_NE(best, result.ranked.end());
  const Prediction baseline = simulate(
      model, make_plan("tp-pp:ranks=8,stages=2,micro_batches=4", model), cluster, work, {});
  EXPECT_LT(best->seconds(), (1 - 0.342) * baseline.step_seconds);
}

TEST(Search, SaysWhatDoesNotFit) {
  Cluster cluster = paper_cluster();
  cluster.types[0].memory_bytes = 1e9;
  try {
    search(paper_model(), cluster, {.sequences = 384, .context_tokens = 1024}, {});
    FAIL() << "fitted 18 GB of weights into 16 GB";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("on a device of 1.0 GB"), std::string::npos)
        << error.what();
  }
}

// Attention where memory is fast, experts where FLOPs are cheap: with long contexts and many
// sequences the best plan puts each group on its own kind of device.
TEST(Search, GivesEachGroupItsKindOfDevice) {
  const Cluster mixed = read_cluster(TANDEM_SOURCE_DIR "/configs/clusters/h20-8-l40s-8.yaml");
  const auto best = [&](int64_t sequences, int64_t context) {
    return search(paper_model(), mixed, {.sequences = sequences, .context_tokens = context},
                  {.simulated = 12})
        .ranked.front();
  };
  EXPECT_EQ(best(512, 2000).kind, "ma");
  EXPECT_NE(best(128, 256).kind, "ma");
}

TEST(Neighbours, AreTheRatiosInBetween) {
  EXPECT_TRUE(neighbours("ma:attention=8,experts=8", 16).empty());
  const std::vector<std::string> plans =
      neighbours("ma:attention=16,experts=48,batch=16,split=2,micro_batches=3", 64);
  EXPECT_EQ(plans.size(), 6u);
  EXPECT_NE(std::ranges::find(plans, "ma:attention=17,experts=47,batch=17,split=2,micro_batches=3"),
            plans.end());
  // Whole sets of head groups alone.
  for (const std::string& plan : neighbours("ma:attention=16,experts=48,batch=8", 64))
    EXPECT_TRUE(plan.starts_with("ma:attention=14,experts=50,batch=7") ||
                plan.starts_with("ma:attention=18,experts=46,batch=9"))
        << plan;
}

TEST(Sensitivities, NameTheBottleneck) {
  Cluster slow = paper_cluster();
  for (Node& node : slow.nodes) node.nic.bytes_per_second /= 100;
  const auto all = sensitivities(paper_model(), plan_from_shorthand("ep:ranks=16", paper_model()),
                                 slow, {.sequences = 384, .context_tokens = 1024}, {});
  EXPECT_EQ(all.front().resource, "links between nodes");
  EXPECT_NEAR(all.front().saved_share, 0.5, 0.1);
  EXPECT_EQ(with_one_more(slow, 0).devices(), slow.devices() + 1);
}

TEST(Search, KeepsTheLimit) {
  SearchSettings settings{.limit_seconds = 4.6e-3};
  const SearchResult result =
      search(paper_model(), paper_cluster(), {.sequences = 384, .context_tokens = 1024}, settings);
  for (const Candidate& c : result.ranked) EXPECT_LE(c.seconds(), 4.6e-3) << c.plan;
  settings.limit_seconds = 1e-6;
  EXPECT_THROW(
      search(paper_model(), paper_cluster(), {.sequences = 384, .context_tokens = 1024}, settings),
      InputError);
}

}  // namespace
}  // namespace tandem
