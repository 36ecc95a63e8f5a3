#include "tandem/planner/workload.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "planner/clusters.h"
#include "tandem/planner/contexts.h"
#include "tandem/planner/estimate.h"
#include "world/models.h"

namespace tandem::test {
namespace {

TEST(Contexts, AreDrawnWithTheGivenMeanAndSpread) {
  const std::vector<double> shape = draw_context_shape(20'000, 0.5, 100, 7);
  EXPECT_EQ(shape, draw_context_shape(20'000, 0.5, 100, 7));
  EXPECT_NE(shape, draw_context_shape(20'000, 0.5, 100, 8));
  double sum = 0, squares = 0;
  for (const double share : shape) {
    EXPECT_GT(share, 0);
    sum += share, squares += (share - 1) * (share - 1);
  }
  const double count = static_cast<double>(shape.size());
  EXPECT_NEAR(sum / count, 1, 1e-9);
  EXPECT_NEAR(std::sqrt(squares / count), 0.5, 0.02);
  const std::vector<double> cut = draw_context_shape(1000, 0.5, 1.5, 7);
  EXPECT_LE(std::ranges::max(cut), 1.5);
  EXPECT_NEAR(std::accumulate(cut.begin(), cut.end(), 0.0) / 1000, 1, 1e-6);
}

TEST(Contexts, AreReadAsRecorded) {
  const auto file = std::filesystem::temp_directory_path() / "tandem-contexts";
  const auto read = [&](const char* text) {
    std::ofstream(file) << text;
    return read_contexts(file.string());
  };
  EXPECT_EQ(read("12\n7,9\n\n3\n"), (std::vector<int64_t>{12, 7, 9, 3}));
  for (const char* text : {"", "\n", "12\n0\n", "12\n-1\n", "12\nlong\n", "1.5\n"})
    EXPECT_THROW(read(text), InputError) << text;
  std::filesystem::remove(file);
  EXPECT_THROW(read_contexts(file.string()), InputError);
}

Workload mixed() {
  return {.kind = WorkKind::mixed,
          .sequences = 10,
          .context_tokens = 90,
          .prompts = 3,
          .chunk_tokens = 40};
}

TEST(Workload, CountsWhatAStepDoes) {
  Workload work{.sequences = 5, .context_tokens = 10, .context_shape = {0.5, 1.5}};
  EXPECT_EQ(work.context_of(0), 5);
  EXPECT_EQ(work.context_of(3), 15);
  EXPECT_EQ(work.shortest_context(), 5);
  EXPECT_EQ(work.longest_context(), 15);
  EXPECT_EQ(work.tokens(), 5);
  EXPECT_EQ(work.cached_tokens(), 3 * 5 + 2 * 15);
  work.kind = WorkKind::prefill;
  EXPECT_EQ(work.tokens(), 3 * 5 + 2 * 15);
  EXPECT_EQ(work.attended_tokens(), (3 * 25 + 2 * 225) / 2.0);
  EXPECT_EQ(mixed().chunks(), 3);
  EXPECT_EQ(mixed().tokens(), 10 + 3 * 30);
  EXPECT_EQ(mixed().slots(), 13);
}

constexpr const char* plans_to_mix[] = {"single",
                                        "tp:ranks=4",
                                        "ep:ranks=8,micro_batches=2",
                                        "tp-pp:ranks=2,stages=2",
                                        "ma:attention=8,experts=8,batch=4,micro_batches=3",
                                        "ma:attention=5,experts=3"};

// What a step takes in beside decoding costs, but no more than in a step of its own; and no step is
// faster than the closed form's floor.
TEST(Workload, PromptsBesideDecodingCost) {
  for (const char* text : plans_to_mix) {
    const ModelConfig model = small_model();
    const Plan plan = make_plan(text, model);
    const auto seconds = [&](const Workload& work) {
      const Prediction p = simulate(model, plan, small_cluster(), work, {.steps = 3});
      const Estimate e = estimate(model, plan, small_cluster(), work, DType::bf16);
      EXPECT_LE(p.floor_seconds, p.step_seconds) << text;
      EXPECT_LE(e.floor_seconds, p.step_seconds) << text;
      EXPECT_LE(e.floor_seconds, p.floor_seconds * 1.02) << text;
      return p.step_seconds;
    };
    Workload decode = mixed(), prefill = mixed();
    decode.kind = WorkKind::decode;
    prefill.kind = WorkKind::prefill, prefill.sequences = 3;  // whole prompts
    EXPECT_GT(seconds(mixed()), seconds(decode)) << text;
    EXPECT_LT(seconds(mixed()), seconds(decode) + seconds(prefill)) << text;
  }
}

// As many tokens in all, unevenly dealt out: never faster (but for the routing, which is drawn by
// position), nor below the floor.
TEST(Workload, UnevenContextsNeverHelp) {
  for (const char* text : plans_to_mix)
    for (const WorkKind kind : {WorkKind::decode, WorkKind::prefill}) {
      const ModelConfig model = small_model();
      const Plan plan = make_plan(text, model);
      Workload work{.kind = kind, .sequences = 12, .context_tokens = 100};
      const auto simulated = [&] {
        const Prediction p = simulate(model, plan, small_cluster(), work, {});
        EXPECT_LE(estimate(model, plan, small_cluster(), work, DType::bf16).floor_seconds,
                  p.floor_seconds * 1.02)
            << text;
        return p;
      };
      const Prediction even = simulated();
      work.context_shape = {0.3, 1.7, 0.9, 1.1};
      const Prediction uneven = simulated();
      EXPECT_GE(uneven.step_seconds, even.step_seconds * 0.98) << text;
      EXPECT_GT(uneven.fullest().kv_cache, even.fullest().kv_cache) << text;
    }
}

}  // namespace
}  // namespace tandem::test
