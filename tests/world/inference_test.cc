#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "world/models.h"

namespace tandem::test {
namespace {

std::vector<std::vector<int32_t>> prompts(int count, uint64_t seed = 3) {
  std::vector<std::vector<int32_t>> result;
  for (int i = 0; i < count; ++i) result.push_back(random_tokens(seed, i, 3 + 13 * i % 70, 97));
  return result;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst = std::max(worst, std::abs(double{a[i]} - b[i]));
    largest = std::max(largest, std::abs(double{b[i]}));
  }
  return worst / largest;
}

class EveryPlan : public ::testing::TestWithParam<std::string> {};

// The same function: whatever the plan, the same logits up to rounding and the same tokens.
TEST_P(EveryPlan, GivesTheLogitsOfSingle) {
  for (const ModelConfig& model :
       {normed_model(), paper_model(), latent_model(), deepseek_model(), olmoe_model()}) {
    ParameterStore store = random_store(model, DType::f32);
    const Generation expected = generate(make_plan("single", model), store, prompts(5), 6);
    const Generation actual = generate(make_plan(GetParam(), model), store, prompts(5), 6);
    for (size_t s = 0; s < expected.tokens.size(); ++s) {
      EXPECT_EQ(actual.tokens[s], expected.tokens[s]) << "sequence " << s;
      EXPECT_LT(relative_error(actual.logits[s], expected.logits[s]), 1e-4) << "sequence " << s;
    }
  }
}

// With weights of 8 bits rows are bf16, and plans that split sums differ by its rounding; which
// experts a token goes to must not hang on that: all of them take part.
TEST_P(EveryPlan, GivesTheLogitsOfSingleWithWeightsOf8Bits) {
  ModelConfig model = latent_model();
  model.top_k = model.experts;
  for (const DType dtype : {DType::fp8, DType::int8}) {
    ParameterStore store = random_store(model, dtype);
    const Generation expected = generate(make_plan("single", model), store, prompts(3), 1);
    const Generation actual = generate(make_plan(GetParam(), model), store, prompts(3), 1);
    for (size_t s = 0; s < expected.tokens.size(); ++s)
      EXPECT_LT(relative_error(actual.logits[s], expected.logits[s]), 0.1)
          << dtype_name(dtype) << ", sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, EveryPlan, ::testing::ValuesIn(plans_to_try(inference_plans())));

// Plans that split no sum: not one bit differs, in f32 and bf16, alone or among others, however the
// prompt is cut.
void expect_bits_of_single(const std::string& plan_text, const ModelConfig& model) {
  constexpr int sequences = 32, new_tokens = 4;
  const auto all = prompts(sequences);
  struct Batch {
    int first, count;
    int64_t chunk;
  };
  for (const DType dtype : {DType::f32, DType::bf16, DType::fp8, DType::int8}) {
    ParameterStore store = random_store(model, dtype);
    const Generation expected = generate(make_plan("single", model), store, all, new_tokens);
    const Plan plan = make_plan(plan_text, model);
    for (const Batch batch : {Batch{3, 1, 1000}, {9, 7, 1000}, {9, 7, 5}, {0, 32, 16}}) {
      SCOPED_TRACE(fmt::format("{}, {} sequences, chunks of {}", dtype_name(dtype), batch.count,
                               batch.chunk));
      const std::vector some(all.begin() + batch.first, all.begin() + batch.first + batch.count);
      const Generation actual = generate(plan, store, some, new_tokens, batch.chunk, 2);
      for (int s = 0; s < batch.count; ++s) {
        const auto &logits = actual.logits[s], &wanted = expected.logits[batch.first + s];
        ASSERT_EQ(actual.tokens[s], expected.tokens[batch.first + s]) << "sequence " << s;
        ASSERT_EQ(logits.size(), wanted.size());
        EXPECT_EQ(0, std::memcmp(logits.data(), wanted.data(), 4 * wanted.size()))
            << "sequence " << s;
      }
    }
  }
}

class BitIdentical : public ::testing::TestWithParam<std::string> {};

TEST_P(BitIdentical, ToSingle) { expect_bits_of_single(GetParam(), small_model()); }
TEST_P(BitIdentical, ToSingleWithLatentAttention) {
  expect_bits_of_single(GetParam(), latent_model_without_query_latent());
}
TEST_P(BitIdentical, ToSingleWithFirstLayersThatAreDense) {
  expect_bits_of_single(GetParam(), deepseek_model());
}
TEST_P(BitIdentical, ToSingleWithNormsOverAllHeads) {
  expect_bits_of_single(GetParam(), olmoe_model());
}

INSTANTIATE_TEST_SUITE_P(
    Plans, BitIdentical,
    ::testing::ValuesIn(plans_to_try(
        {"single", "single:micro_batches=4", "pp:stages=2", "ep:ranks=4",
         "ma:attention=1,experts=1,micro_batches=2", "ma:attention=8,experts=8",
         "ma:attention=8,experts=8,sequence=2", "ma:attention=12,experts=4",
         "ma:attention=3,experts=5,micro_batches=3", "ma:attention=4,experts=3,batch=2,replicas=2",
         "ma:attention=2,experts=2,stages=2", "ma:attention=1,experts=2,copies=2",
         "ma:attention=4,experts=3,partial=1,micro_batches=2", "ep:ranks=3,partial=1"})));

}  // namespace
}  // namespace tandem::test
