#include "tandem/cli/comparison.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "tandem/cli/compare_report.h"
#include "tandem/cli/rank_summary.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"

namespace tandem::cli {
namespace {

ModelConfig model() {
  return read_config(std::string(TANDEM_SOURCE_DIR) + "/configs/models/ma-64/config.json");
}

TEST(RandomPrompts, DifferFromEachOtherAndFollowTheSeed) {
  const auto prompts = random_prompts(3, 50, 2, 64);
  EXPECT_EQ(std::set(prompts.begin(), prompts.end()).size(), 50u);
  EXPECT_EQ(random_prompts(3, 50, 2, 64), prompts);
  EXPECT_NE(random_prompts(4, 50, 2, 64), prompts);
  EXPECT_EQ(random_prompts(3, 9, 1, 2).size(), 9u);  // more than there are
}

TEST(Comparison, HoldsEveryPlanAgainstSingle) {
  const ModelConfig config = model();
  const auto device = make_cpu_device(1);
  ParameterStore store = ParameterStore::random(config, 1, DType::f32, *device);
  Comparison comparison(store, local_world({.threads = 2}),
                        random_prompts(1, 3, 9, config.vocab_size), 5);
  comparison.make_reference(make_plan("single", config));
  for (const char* name :
       {"single", "pp:stages=2", "ma:attention=3,experts=2,micro_batches=2", "tp:ranks=2"}) {
    const Plan plan = make_plan(name, config);
    const PlanResult result = comparison.run(name, plan);
    EXPECT_TRUE(result.same_tokens) << name;
    if (plan.stages.front().exchange == Exchange::replicated && plan.ranks() > 1)
      EXPECT_LT(result.max_relative_error, 1e-4) << name;
    else
      EXPECT_EQ(result.max_relative_error, 0) << name;
    EXPECT_EQ(result.ranks(), plan.ranks());
    EXPECT_EQ(result.times.decode_tokens, 3 * 4);
    EXPECT_GT(result.tokens_per_second(), 0);
    for (const double share :
         {result.decode.communication_share, result.decode.attention.utilisation,
          result.decode.expert.utilisation, result.decode.waiting.mean}) {
      EXPECT_GE(share, 0) << name;
      EXPECT_LE(share, 1) << name;
    }
    // Prompts and all new tokens but the last, which is not run.
    const int64_t tokens = 3 * (9 + 5 - 1);
    EXPECT_EQ(std::accumulate(result.expert_tokens.begin(), result.expert_tokens.end(), int64_t{0}),
              tokens * config.top_k * config.layers)
        << name;
    EXPECT_GE(expert_load_max_over_mean(result, config), 1);
  }
}

TEST(RankSummary, TellsWhoHoldsWhat) {
  const ModelConfig config = model();
  const auto ranks = summarise(make_plan("ma:attention=3,experts=2", config), config,
                               {.dtype = DType::bf16, .sequences = 4, .context_tokens = 100});
  ASSERT_EQ(ranks.size(), 5u);
  EXPECT_EQ(ranks[0].heads, (Interval{0, 3}));
  EXPECT_EQ(ranks[2].heads, (Interval{6, 8}));
  EXPECT_EQ(ranks[2].experts, "-");
  EXPECT_EQ(ranks[4].experts, "8-15");
  // 4 layers, keys and values, 3 heads of 8, 4 sequences of two blocks
  EXPECT_EQ(ranks[0].kv_bytes, 4 * 2 * 3 * 8 * 4 * 128 * 2);
  EXPECT_EQ(ranks[4].kv_bytes, 0);
  const int64_t expert = 2 * config.hidden_size * config.expert_hidden;
  EXPECT_EQ(ranks[4].parameters, 4 * 8 * expert);
  EXPECT_EQ(ranks[4].optimizer_bytes, ranks[4].parameters * 12);
  EXPECT_EQ(summarise(make_plan("ma:attention=1,experts=4,split=2", config), config, {})[1].experts,
            "0-3,12-15 (1/2)");
}

}  // namespace
}  // namespace tandem::cli
