#include <gtest/gtest.h>

#include <functional>

#include "model/refusal.h"
#include "plan/models.h"
#include "tandem/plan/shorthand.h"

namespace tandem::test {
namespace {

using ::testing::HasSubstr;

struct Mistake {
  const char* name;
  std::function<void(Plan&)> make;
  const char* message;
};
void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

// Ranks 0-3 attention, 4-5 experts, then the same on 6-11.
Plan two_stages() {
  Plan plan = make_plan("ma:attention=4,experts=2,stages=2", model_of_32_heads());
  plan.name = "p";
  return plan;
}
AttentionGrid& grid(Plan& plan) { return plan.stages[0].attention; }
ExpertPlacement& placement(Plan& plan) { return plan.stages[1].experts[0]; }

class ValidateRefuses : public ::testing::TestWithParam<Mistake> {};

TEST_P(ValidateRefuses, WithAMessageThatNamesIt) {
  Plan plan = two_stages();
  EXPECT_NO_THROW(validate(plan, model_of_32_heads()));
  GetParam().make(plan);
  const std::string message = refusal([&] { validate(plan, model_of_32_heads()); });
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_THAT(message, HasSubstr("plan 'p'"));
}

constexpr int largest = std::numeric_limits<int>::max();

INSTANTIATE_TEST_SUITE_P(
    All, ValidateRefuses,
    ::testing::Values(
        Mistake{"copies", [](Plan& p) { p.copies = 0; }, "copies must be at least 1"},
        Mistake{"no_micro_batch", [](Plan& p) { p.micro_batches = 0; },
                "micro_batches is 0, must be 1 to 64"},
        Mistake{"micro_batches", [](Plan& p) { p.micro_batches = 65; },
                "micro_batches is 65, must be 1 to 64"},
        Mistake{"no_stage", [](Plan& p) { p.stages.clear(); }, "no stage"},
        Mistake{"too_many_ranks", [](Plan& p) { p.copies = 1000; }, "more than 4096 ranks"},
        Mistake{"large_attention_rank", [](Plan& p) { grid(p).ranks[0] = largest; },
                "more than 4096 ranks"},
        Mistake{"large_expert_rank", [](Plan& p) { placement(p)[0] = {{{largest}}}; },
                "more than 4096 ranks"},
        Mistake{"gap_of_layers", [](Plan& p) { p.stages[1].layers.begin = 3; },
                "stage 1: layers 3 to 4, expected to start at layer 2 and hold at least one"},
        Mistake{"empty_stage", [](Plan& p) { p.stages[0].layers.end = 0; },
                "stage 0: layers 0 to 0, expected to start at layer 0 and hold at least one"},
        Mistake{"missing_layers", [](Plan& p) { p.stages[1].layers.end = 3; },
                "stages end at layer 3, the model has 4 layers"},
        Mistake{"too_many_layers", [](Plan& p) { p.stages[1].layers.end = int64_t{1} << 62; },
                "stages end at layer 4611686018427387904, the model has 4 layers"},
        Mistake{"no_heads", [](Plan& p) { grid(p).heads.clear(); }, "stage 0: no head group"},
        Mistake{"empty_group",
                [](Plan& p) {
                  grid(p).heads = {16, 16, 0, 0};
                },
                "stage 0: head group 2 has 0 heads (the model has 32 for 4 groups)"},
        Mistake{"too_few_heads",
                [](Plan& p) {
                  grid(p).heads = {8, 8, 8, 7};
                },
                "stage 0: head groups hold 31 heads, the model has 32"},
        Mistake{"absurd_heads",
                [](Plan& p) {
                  grid(p).heads = {largest, largest, 32, 2};
                },
                "stage 0: head groups hold 4294967328 heads, the model has 32"},
        Mistake{"no_shard", [](Plan& p) { grid(p).batch_shards = 0; },
                "stage 0: batch_shards and sequence_shards must be at least 1"},
        Mistake{"negative_shards", [](Plan& p) { grid(p).sequence_shards = -1; },
                "stage 0: batch_shards and sequence_shards must be at least 1"},
        Mistake{"places", [](Plan& p) { grid(p).batch_shards = 2; },
                "stage 0: 4 attention ranks for 4 head groups x 2 batch x 1 sequence shards"},
        Mistake{"negative_rank", [](Plan& p) { grid(p).ranks[2] = -3; },
                "stage 0: attention rank -3 is negative"},
        Mistake{"rank_twice", [](Plan& p) { grid(p).ranks[3] = 1; },
                "stage 0: rank 1 stands twice in the attention grid"},
        Mistake{"placements", [](Plan& p) { p.stages[0].experts.resize(3, placement(p)); },
                "stage 0: 3 expert placements for 2 layers"},
        Mistake{"no_placement", [](Plan& p) { p.stages[0].experts.clear(); },
                "stage 0: 0 expert placements for 2 layers"},
        Mistake{"experts", [](Plan& p) { placement(p).pop_back(); },
                "stage 1: 15 experts placed, the model has 16"},
        Mistake{"homeless_expert", [](Plan& p) { placement(p)[7].clear(); },
                "stage 1: expert 7 is on no rank"},
        Mistake{"homeless_replica", [](Plan& p) { placement(p)[7].push_back({}); },
                "stage 1: a replica of expert 7 is on no rank"},
        Mistake{"negative_expert_rank", [](Plan& p) { placement(p)[5] = {{{-1}}}; },
                "stage 1: expert 5 on rank -1"},
        Mistake{"expert_twice",
                [](Plan& p) {
                  placement(p)[5] = {{{10}}, {{10}}};
                },
                "stage 1: rank 10 holds expert 5 twice"},
        Mistake{"slice_twice",
                [](Plan& p) {
                  placement(p)[5] = {{{10, 10}}};
                },
                "stage 1: rank 10 holds expert 5 twice"},
        Mistake{"replicated_shards",
                [](Plan& p) {
                  p.stages[0].exchange = Exchange::replicated;
                  grid(p).heads = {16, 16};
                  grid(p).sequence_shards = 2;
                },
                "stage 0: exchange 'replicated' needs one batch and one sequence shard"},
        Mistake{"replicated_elsewhere",
                [](Plan& p) { p.stages[0].exchange = Exchange::replicated; },
                "stage 0: expert 0 is on rank 4, which is no attention rank"},
        Mistake{"two_stages", [](Plan& p) { placement(p)[3] = {{{1}}}; },
                "rank 1 is in stage 0 and in stage 1"},
        Mistake{"idle_rank",
                [](Plan& p) {
                  for (auto& replicas : placement(p)) replicas = {{{10}}, {{12}}};
                },
                "rank 11 has nothing to do"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Validate, ExpertsMayBeOnAttentionRanksAndDifferByLayer) {
  Plan plan = two_stages();
  plan.stages[0].experts.resize(2, plan.stages[0].experts[0]);
  plan.stages[0].experts[1][3] = {{{0, 5}}, {{4}}};
  EXPECT_NO_THROW(validate(plan, model_of_32_heads()));
  EXPECT_TRUE(role_of(plan, 0).expert);
  EXPECT_TRUE(role_of(plan, 0).attention);
  EXPECT_FALSE(role_of(plan, 1).expert);
  EXPECT_EQ(plan.stages[0].placement(1)[3].size(), 2u);
  EXPECT_EQ(plan.stages[0].placement(0)[3].size(), 1u);
}

}  // namespace
}  // namespace tandem::test
