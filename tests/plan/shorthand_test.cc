#include "tandem/plan/shorthand.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "model/refusal.h"
#include "plan/models.h"

namespace tandem::test {
namespace {

using ::testing::HasSubstr;
using Ranks = std::vector<int>;

Ranks ranks_from(int first, int count) {
  Ranks ranks(count);
  std::iota(ranks.begin(), ranks.end(), first);
  return ranks;
}

// Every expert on one rank: `counts[i]` consecutive ones on rank first + i.
ExpertPlacement contiguous(int first, const std::vector<int>& counts) {
  ExpertPlacement placement;
  for (size_t i = 0; i < counts.size(); ++i)
    for (int n = 0; n < counts[i]; ++n) placement.push_back({{{first + static_cast<int>(i)}}});
  return placement;
}

TEST(Shorthand, HeadsAreDealtTheLargerSharesFirst) {
  EXPECT_EQ(deal_heads(32, 12), (std::vector<int>{3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2}));
  EXPECT_EQ(deal_heads(32, 8), std::vector<int>(8, 4));
  EXPECT_EQ(deal_heads(7, 3), (std::vector<int>{3, 2, 2}));
  EXPECT_EQ(deal_heads(5, 1), std::vector<int>{5});
}

TEST(Shorthand, Single) {
  const Plan expected{.name = "single",
                      .stages = {{.layers = {0, 4},
                                  .exchange = Exchange::heads,
                                  .attention = {.heads = {32}, .ranks = {0}},
                                  .experts = {contiguous(0, {16})}}}};
  EXPECT_EQ(make_plan("single", model_of_32_heads()), expected);
}

TEST(Shorthand, TensorParallel) {
  const Plan expected{
      .name = "tp:ranks=8",
      .stages = {{.layers = {0, 4},
                  .exchange = Exchange::replicated,
                  .attention = {.heads = std::vector<int>(8, 4), .ranks = ranks_from(0, 8)},
                  .experts = {contiguous(0, std::vector<int>(8, 2))}}}};
  EXPECT_EQ(make_plan("tp:ranks=8", model_of_32_heads()), expected);
}

TEST(Shorthand, PipelineStagesHaveRanksOfTheirOwn) {
  const Plan plan = make_plan("pp:stages=3", model_of_32_heads());
  ASSERT_EQ(plan.stages.size(), 3u);
  EXPECT_EQ(plan.ranks(), 3);
  int64_t next = 0;
  for (int s = 0; s < 3; ++s) {
    const Stage& stage = plan.stages[s];
    EXPECT_EQ(stage.layers, part(4, 3, s));
    EXPECT_EQ(stage.layers.begin, next);
    next = stage.layers.end;
    EXPECT_EQ(stage.attention.ranks, Ranks{s});
    EXPECT_EQ(stage.experts[0], contiguous(s, {16}));
  }
}

TEST(Shorthand, TensorAndPipelineParallel) {
  const Plan plan = make_plan("tp-pp:ranks=8,stages=2,micro_batches=4", model_of_32_heads());
  EXPECT_EQ(plan.ranks(), 16);
  EXPECT_EQ(plan.micro_batches, 4);
  ASSERT_EQ(plan.stages.size(), 2u);
  for (int s = 0; s < 2; ++s) {
    EXPECT_EQ(plan.stages[s].layers, (Interval{2 * s, 2 * s + 2}));
    EXPECT_EQ(plan.stages[s].exchange, Exchange::replicated);
    EXPECT_EQ(plan.stages[s].attention.ranks, ranks_from(8 * s, 8));
    EXPECT_EQ(plan.stages[s].experts[0], contiguous(8 * s, std::vector<int>(8, 2)));
  }
}

TEST(Shorthand, ExpertParallelShardsTheBatch) {
  const Plan expected{
      .name = "ep:ranks=16",
      .stages = {{.layers = {0, 4},
                  .exchange = Exchange::heads,
                  .attention = {.heads = {32}, .batch_shards = 16, .ranks = ranks_from(0, 16)},
                  .experts = {contiguous(0, std::vector<int>(16, 1))}}}};
  EXPECT_EQ(make_plan("ep:ranks=16", model_of_32_heads()), expected);
}

TEST(Shorthand, AttentionAndExpertsApart) {
  const Plan plan = make_plan("ma:attention=12,experts=4,exchange=sums", model_of_32_heads());
  ASSERT_EQ(plan.stages.size(), 1u);
  EXPECT_EQ(plan.stages[0].exchange, Exchange::sums);
  EXPECT_EQ(plan.stages[0].attention.heads, deal_heads(32, 12));
  EXPECT_EQ(plan.stages[0].attention.ranks, ranks_from(0, 12));
  EXPECT_EQ(plan.stages[0].experts[0], contiguous(12, {4, 4, 4, 4}));
}

// As in the papers: GPU 3 of each node of four for the experts.
TEST(Shorthand, GroupsAreMixed) {
  const Plan plan = plan_from_shorthand("ma:attention=12,experts=4,mixed=1", model_of_32_heads());
  EXPECT_EQ(plan.stages[0].attention.ranks,
            (std::vector<int>{0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14}));
  std::vector<int> experts;
  for (const auto& replicas : plan.stages[0].experts[0]) experts.push_back(replicas[0].ranks[0]);
  std::ranges::sort(experts);
  const auto repeated = std::ranges::unique(experts);
  experts.erase(repeated.begin(), repeated.end());
  EXPECT_EQ(experts, (std::vector<int>{3, 7, 11, 15}));
}

TEST(Shorthand, BatchAndSequenceShardsDivideTheAttentionRanks) {
  const Plan plan = make_plan("ma:attention=12,experts=2,batch=2,sequence=3", model_of_32_heads());
  const AttentionGrid& grid = plan.stages[0].attention;
  EXPECT_EQ(grid.heads, (std::vector<int>{16, 16}));
  EXPECT_EQ(grid.batch_shards, 2);
  EXPECT_EQ(grid.sequence_shards, 3);
  EXPECT_EQ(grid.rank(1, 2, 0), 10);
  EXPECT_EQ(grid.head_range(1), (Interval{16, 32}));
  for (int i = 0; i < 12; ++i) {
    const AttentionPlace place = place_of(grid, i);
    EXPECT_EQ(grid.rank(place.batch, place.sequence, place.group), i);
  }
}

TEST(Shorthand, UnevenExpertsAreContiguous) {
  const ExpertPlacement placement = place_experts(16, 3, 5, 1, 1, Exchange::heads);
  EXPECT_EQ(placement, contiguous(3, {4, 3, 3, 3, 3}));
}

TEST(Shorthand, ReplicasStandFarApart) {
  const ExpertPlacement placement = place_experts(4, 0, 4, 2, 1, Exchange::heads);
  const ExpertPlacement expected = {{{{0}}, {{2}}}, {{{1}}, {{3}}}, {{{2}}, {{0}}}, {{{3}}, {{1}}}};
  EXPECT_EQ(placement, expected);
}

TEST(Shorthand, SplitTakesConsecutiveRanks) {
  const ExpertPlacement expected = {{{{0, 1}}}, {{{1, 2}}}, {{{2, 0}}}};
  EXPECT_EQ(place_experts(3, 0, 3, 1, 2, Exchange::heads), expected);
}

TEST(Shorthand, MoreRanksThanExpertsBecomeReplicas) {
  // 7 ranks for 3 experts: 2, 2 and 3 ranks each.
  const ExpertPlacement expected = {{{{10}}, {{11}}}, {{{12}}, {{13}}}, {{{14}}, {{15}}, {{16}}}};
  EXPECT_EQ(place_experts(3, 10, 7, 1, 1, Exchange::heads), expected);
  const ExpertPlacement halves = {{{{0, 1}}, {{2, 3}}}, {{{4, 5}}, {{6, 7}}}};
  EXPECT_EQ(place_experts(2, 0, 8, 1, 2, Exchange::heads), halves);
}

TEST(Shorthand, MoreReplicatedRanksThanExpertsBecomeSlices) {
  const ExpertPlacement expected = {{{{0, 1}}}, {{{2, 3}}}, {{{4, 5, 6}}}};
  EXPECT_EQ(place_experts(3, 0, 7, 1, 1, Exchange::replicated), expected);
  EXPECT_EQ(place_experts(2, 0, 4, 2, 1, Exchange::replicated),
            (ExpertPlacement{{{{0}}, {{1}}}, {{{2}}, {{3}}}}));
}

TEST(Shorthand, ReplicatedWithSplit) {
  const Plan plan = make_plan("tp:ranks=5,split=2", model_of_32_heads());
  EXPECT_EQ(plan.stages[0].exchange, Exchange::replicated);
  for (const auto& replicas : plan.stages[0].experts[0]) {
    ASSERT_EQ(replicas.size(), 1u);
    ASSERT_EQ(replicas[0].ranks.size(), 2u);
    EXPECT_EQ(replicas[0].ranks[1], (replicas[0].ranks[0] + 1) % 5);
  }
}

TEST(Shorthand, CopiesRepeatTheRanks) {
  const Plan plan = make_plan("ma:attention=2,experts=1,copies=3", model_of_32_heads());
  EXPECT_EQ(plan.ranks_per_copy(), 3);
  EXPECT_EQ(plan.ranks(), 9);
  const Role attention = role_of(plan, 7);
  EXPECT_EQ(attention.copy, 2);
  EXPECT_EQ(attention.local_rank, 1);
  EXPECT_TRUE(attention.attention);
  EXPECT_FALSE(attention.expert);
  EXPECT_EQ(attention.place.group, 1);
  EXPECT_TRUE(role_of(plan, 5).expert);
}

TEST(Shorthand, EveryRankHasSomethingToDoWhateverTheNumbers) {
  ModelConfig model = model_of_32_heads();
  for (const int experts : {1, 3, 16})
    for (const int ranks : {1, 2, 3, 5, 8, 16, 17, 31})
      for (const int replicas : {1, 2, 3}) {
        if (replicas > ranks) continue;
        model.experts = experts;
        model.top_k = 1;
        const std::string text = fmt::format("ma:experts={},replicas={}", ranks, replicas);
        EXPECT_NO_THROW((void)make_plan(text, model)) << text << " of " << experts;
      }
}

struct RefusedShorthand {
  const char* plan;
  const char* message;
};
class ShorthandRefuses : public ::testing::TestWithParam<RefusedShorthand> {};

TEST_P(ShorthandRefuses, WithAMessageThatNamesIt) {
  const auto [plan, message] = GetParam();
  const std::string refused = refusal([&] { (void)make_plan(plan, model_of_32_heads()); });
  EXPECT_THAT(refused, HasSubstr(message));
  EXPECT_THAT(refused, HasSubstr("plan '" + std::string(plan) + "'"));
}

INSTANTIATE_TEST_SUITE_P(
    All, ShorthandRefuses,
    ::testing::Values(
        RefusedShorthand{"", "is neither a file nor single, tp, pp, tp-pp, ep or ma"},
        RefusedShorthand{"sp:ranks=2", "is neither a file nor single, tp, pp, tp-pp, ep or ma"},
        RefusedShorthand{"tp:", "'' is not key=value"},
        RefusedShorthand{"tp:ranks", "'ranks' is not key=value"},
        RefusedShorthand{"tp:ranks=2,", "'' is not key=value"},
        RefusedShorthand{"tp:stages=2",
                         "'stages' is not an option of tp (known: copies, exchange, "
                         "micro_batches, partial, ranks, split)"},
        RefusedShorthand{"single:ranks=2", "'ranks' is not an option of single"},
        RefusedShorthand{"tp:ranks=2,ranks=3", "ranks is given twice"},
        RefusedShorthand{"tp:ranks=two", "ranks=two is not a number"},
        RefusedShorthand{"tp:ranks=2x", "ranks=2x is not a number"},
        RefusedShorthand{"tp:ranks=", "ranks= is not a number"},
        RefusedShorthand{"tp:ranks=99999999999", "ranks=99999999999 is not a number"},
        RefusedShorthand{"tp:ranks=0", "ranks=0 must be 1 to 4096"},
        RefusedShorthand{"tp:ranks=-1", "ranks=-1 must be 1 to 4096"},
        RefusedShorthand{"ma:experts=4097", "experts=4097 must be 1 to 4096"},
        RefusedShorthand{"ma:exchange=rows", "exchange 'rows' is not heads, sums or replicated"},
        RefusedShorthand{"ma:attention=5,batch=2",
                         "5 attention ranks are not divided by 2 batch x 1 sequence shards"},
        RefusedShorthand{"ma:attention=2,sequence=4",
                         "2 attention ranks are not divided by 1 batch x 4 sequence shards"},
        RefusedShorthand{"pp:stages=5", "5 stages for 4 layers"},
        RefusedShorthand{"ma:experts=3,replicas=2,split=2",
                         "2 replicas x 2 slices of an expert need as many ranks, there are 3"},
        RefusedShorthand{"tp:ranks=33",
                         "head group 32 has 0 heads (the model has 32 for 33 groups)"},
        RefusedShorthand{"single:micro_batches=65", "micro_batches is 65, must be 1 to 64"},
        RefusedShorthand{"tp:ranks=32,copies=129", "more than 4096 ranks"},
        RefusedShorthand{
            "ma:exchange=replicated",
            "expert 0 is on rank 1, which is no attention rank; exchange 'replicated' needs "
            "experts on the attention ranks"},
        RefusedShorthand{"ep:ranks=2,exchange=replicated",
                         "exchange 'replicated' needs one batch and one sequence shard"},
        RefusedShorthand{"ma:experts=33,split=2", "rank 33 has nothing to do"},
        RefusedShorthand{"ma:experts=41,split=41",
                         "expert 0 has 40 hidden features, too few to split over 41 ranks"}));

}  // namespace
}  // namespace tandem::test
