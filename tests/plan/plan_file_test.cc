#include "tandem/plan/plan_file.h"

#include <gtest/gtest.h>

#include "model/refusal.h"
#include "model/temporary_directory.h"
#include "plan/models.h"
#include "tandem/plan/shorthand.h"

namespace tandem::test {
namespace {

using ::testing::HasSubstr;

TEST(PlanFile, WhatIsWrittenIsReadBack) {
  for (const std::string& text : many_plans()) {
    const Plan plan = make_plan(text, model_of_32_heads());
    EXPECT_EQ(parse_plan(plan_yaml(plan), "test"), plan) << plan_yaml(plan);
  }
}

TEST(PlanFile, PlacementsOfEachLayerAreReadBack) {
  Plan plan = make_plan("ma:attention=3,experts=4,replicas=2", model_of_32_heads());
  plan.stages[0].experts.resize(4, plan.stages[0].experts[0]);
  plan.stages[0].experts[2][5] = {{{3, 4, 5}}, {{6}}};
  plan.stages[0].experts[3][0] = {{{0}}};
  EXPECT_THAT(plan_yaml(plan), HasSubstr("experts_per_layer"));
  EXPECT_EQ(parse_plan(plan_yaml(plan), "test"), plan);
}

TEST(PlanFile, OddNamesAreReadBack) {
  for (const char* name : {"", "null", "~", "1.5", "true", "a: b", "- x", "two\nlines",
                           "\"quoted\"", "{", "#", " space ", "ä"}) {
    Plan plan = make_plan("single", model_of_32_heads());
    plan.name = name;
    EXPECT_EQ(parse_plan(plan_yaml(plan), "test"), plan) << name;
  }
}

// Found by fuzz_plan: other bytes were written in their place.
TEST(PlanFile, BytesThatAreNoTextAreRefused) {
  for (const char* bytes :
       {"\xff", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3"})
    EXPECT_THAT(refusal([&] { (void)parse_plan(std::string("name: ") + bytes, "f.yaml"); }),
                HasSubstr("f.yaml: is not UTF-8 text"));
}

// A plan as one writes it by hand, with what may be left out left out.
constexpr const char* by_hand = R"(
stages:
  - layers: [0, 4]
    attention:
      heads: [20, 12]
      ranks: [1, 0]
    experts: [[2], [2], [2], [2], [2], [2], [2], [2], [[0, 1]], [2, 3], [2], [2], [2], [2], [2], [2]]
)";

TEST(PlanFile, FilesAreReadAndDefaultsFilledIn) {
  const TemporaryDirectory directory;
  directory.put("plan.yaml", by_hand);
  const std::string file = (directory / "plan.yaml").string();
  const Plan plan = make_plan(file, model_of_32_heads());
  EXPECT_EQ(plan.name, file);
  EXPECT_EQ(plan.copies, 1);
  EXPECT_EQ(plan.micro_batches, 1);
  const Stage& stage = plan.stages.at(0);
  EXPECT_EQ(stage.exchange, Exchange::heads);
  EXPECT_EQ(stage.attention.batch_shards, 1);
  EXPECT_EQ(stage.attention.ranks, (std::vector<int>{1, 0}));
  EXPECT_EQ(stage.experts[0][8], (std::vector<ExpertReplica>{{{0, 1}}}));
  EXPECT_EQ(stage.experts[0][9], (std::vector<ExpertReplica>{{{2}}, {{3}}}));
}

TEST(PlanFile, AFileThatDoesNotFitTheModelIsRefused) {
  const TemporaryDirectory directory;
  directory.put("plan.yaml", by_hand);
  const std::string file = (directory / "plan.yaml").string();
  EXPECT_THAT(refusal([&] { (void)make_plan(file, model_of_few_heads()); }),
              HasSubstr("head groups hold 32 heads, the model has 8"));
  EXPECT_THAT(refusal([&] { (void)read_plan(directory / "none.yaml"); }),
              HasSubstr("none.yaml: cannot be read"));
}

struct RefusedFile {
  const char* from;  // replaced in by_hand
  const char* to;
  const char* message;
};
class PlanFileRefuses : public ::testing::TestWithParam<RefusedFile> {};

TEST_P(PlanFileRefuses, WithAMessageThatNamesTheField) {
  const auto& [from, to, message] = GetParam();
  std::string text = by_hand;
  const size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, std::string(from).size(), to);
  const std::string refused = refusal([&] { (void)parse_plan(text, "f.yaml"); });
  EXPECT_EQ(refused, std::string("f.yaml") + message);
}

constexpr const char* all_experts =
    "[[2], [2], [2], [2], [2], [2], [2], [2], [[0, 1]], [2, 3], [2], [2], [2], [2], [2], [2]]";

INSTANTIATE_TEST_SUITE_P(
    All, PlanFileRefuses,
    ::testing::Values(
        RefusedFile{by_hand, "", ": expected a map"},
        RefusedFile{by_hand, "[1, 2]", ": expected a map"},
        RefusedFile{by_hand, "copies: 2", ": 'stages' is missing"},
        RefusedFile{by_hand, "stages: 2", ", stages: expected a list"},
        RefusedFile{by_hand, "stages: [1]", ", stage 0: expected a map"},
        RefusedFile{"stages", "copies: many\nstages", ", copies: wrong type of value"},
        RefusedFile{"stages", "copies: 99999999999\nstages", ", copies: wrong type of value"},
        RefusedFile{"stages", "micro_batches: [1]\nstages", ", micro_batches: wrong type of value"},
        RefusedFile{"stages", "name: [a]\nstages", ", name: wrong type of value"},
        RefusedFile{"stages", "microbatches: 2\nstages",
                    ": 'microbatches' is not a field (known: name, copies, micro_batches, "
                    "partial_batches, stages)"},
        RefusedFile{
            "layers", "stuff",
            ", stage 0: 'stuff' is not a field (known: layers, exchange, attention, experts, "
            "experts_per_layer)"},
        RefusedFile{"heads", "head",
                    ", stage 0, attention: 'head' is not a field (known: heads, batch_shards, "
                    "sequence_shards, ranks)"},
        RefusedFile{"layers: [0, 4]", "exchange: heads", ", stage 0: 'layers' is missing"},
        RefusedFile{"[0, 4]", "[0]", ", stage 0, layers: expected [first, end]"},
        RefusedFile{"[0, 4]", "{0: 4}", ", stage 0, layers: wrong type of value"},
        RefusedFile{"[0, 4]", "[0, x]", ", stage 0, layers: wrong type of value"},
        RefusedFile{"attention", "exchange: all\n    attention",
                    ", stage 0: exchange 'all' is not heads, sums or replicated"},
        RefusedFile{"ranks: [1, 0]", "", ", stage 0, attention: 'ranks' is missing"},
        RefusedFile{"[20, 12]", "32", ", stage 0, attention, heads: wrong type of value"},
        RefusedFile{all_experts, "5",
                    ", stage 0, experts: expected a list with one entry an expert"},
        RefusedFile{"[2, 3]", "2", ", stage 0, experts, expert 9: expected a list of replicas"},
        RefusedFile{"[2, 3]", "[2, x]", ", stage 0, experts, expert 9: wrong type of value"},
        RefusedFile{"[2, 3]", "[2, [3, x]]", ", stage 0, experts, expert 9: wrong type of value"},
        RefusedFile{"[2, 3]", "[2, {3: 4}]", ", stage 0, experts, expert 9: wrong type of value"},
        RefusedFile{"experts:", "experts_per_layer: {0: 1}\n    experts:",
                    ", stage 0: both 'experts' and 'experts_per_layer'"},
        RefusedFile{
            "experts:", "experts_per_layer:",
            ", stage 0, experts_per_layer, layer 0, expert 0: expected a list of replicas"}));

TEST(PlanFile, PlacementsOfLayersMustBeAList) {
  std::string text = by_hand;
  text = text.substr(0, text.find("experts:")) + "experts_per_layer: {0: 1}\n";
  EXPECT_EQ(refusal([&] { (void)parse_plan(text, "f.yaml"); }),
            "f.yaml, stage 0, experts_per_layer: expected a list with one placement a layer");
}

TEST(PlanFile, SyntaxErrorsNameTheLine) {
  EXPECT_THAT(refusal([] { (void)parse_plan("copies: 1\nstages: [", "f.yaml"); }),
              HasSubstr("f.yaml, line "));
  EXPECT_THAT(refusal([] { (void)parse_plan("a: b: c", "f.yaml"); }), HasSubstr("line 1"));
}

}  // namespace
}  // namespace tandem::test
