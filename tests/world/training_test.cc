#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "sanitized.h"
#include "world/models.h"
#include "world/training.h"

namespace tandem::test {
namespace {

struct Gradients {
  TrainingResult losses;
  std::map<ParameterId, std::vector<float>> values;
};

Gradients gradients_of(const std::string& plan, ParameterStore& store, const TrainingBatch& batch,
                       const TrainingStep& step, bool shard_optimizer = true) {
  Engine engine(
      make_plan(plan, store.config()), store,
      {.rank = {.timeout_seconds = 60, .trainable = true, .shard_optimizer = shard_optimizer}});
  Gradients result;
  result.losses = engine.gradients(batch, step);
  result.values = collect_gradients(engine);
  return result;
}

void expect_equal(const Gradients& actual, const Gradients& expected, const ModelConfig& model) {
  EXPECT_NEAR(actual.losses.loss, expected.losses.loss, 1e-5);
  EXPECT_NEAR(actual.losses.balance_loss, expected.losses.balance_loss, 1e-5);
  EXPECT_NEAR(actual.losses.z_loss, expected.losses.z_loss, 1e-5);
  for (const Parameter& p : parameters(model)) {
    double largest = 0, worst = 0;
    const auto& a = actual.values.at(p.id);
    const auto& b = expected.values.at(p.id);
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_FALSE(std::isnan(a[i])) << p.name << " is updated by no rank";
      largest = std::max(largest, std::abs(double{b[i]}));
      worst = std::max(worst, std::abs(double{a[i]} - b[i]));
    }
    // A bias of keys changes nothing but rounding: what is left of its gradient is all rounding.
    EXPECT_LE(worst, 1e-4 * largest + 1e-7) << p.name;
  }
}

class EveryPlanTrains : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryPlanTrains, WithTheGradientsOfSingle) {
  for (ModelConfig model :
       {normed_model(), paper_model(), latent_model(), deepseek_model(), olmoe_model()}) {
    model.expert_capacity = model.tied_embeddings ? 6 : 0;
    ParameterStore store = random_store(model, DType::f32);
    const TrainingBatch batch = random_batch(model, 7, 11);
    const TrainingStep step{.groups = 2, .seed = 5};
    const Gradients expected = gradients_of("single", store, batch, step);
    expect_equal(gradients_of(GetParam(), store, batch, step), expected, model);
    TrainingStep again = step;
    again.checkpoint_activations = 1;
    expect_equal(gradients_of(GetParam(), store, batch, again, false), expected, model);
  }
}

INSTANTIATE_TEST_SUITE_P(Plans, EveryPlanTrains,
                         ::testing::ValuesIn(plans_to_try(training_plans())));

TEST(Training, BalanceOverTheGlobalBatchIsTheSameUnderEveryPlan) {
  ModelConfig model = small_model();
  model.balance_per_sequence = false;
  ParameterStore store = random_store(model, DType::f32);
  const TrainingBatch batch = random_batch(model, 6, 12);
  const Gradients expected = gradients_of("single", store, batch, {});
  for (const char* plan : {"ma:attention=3,experts=2,micro_batches=2", "tp:ranks=2,copies=2",
                           "ep:ranks=3", "pp:stages=2,micro_batches=3"})
    expect_equal(gradients_of(plan, store, batch, {}), expected, model);
}

// Each parameter kind against central differences of the loss, along random directions.
TEST(Training, GradientsAgreeWithFiniteDifferences) {
  if (sanitized) GTEST_SKIP() << "asks about numbers alone";
  for (ModelConfig model : {normed_model(), paper_model(), latent_model(),
                            latent_model_without_query_latent(), deepseek_model(), olmoe_model()}) {
    // Steps must not change which experts a token goes to: all of them take part.
    model.experts = model.top_k = 3;
    model.expert_groups = model.chosen_groups = 1;
    model.hidden_dropout = model.attention_dropout = model.expert_dropout = 0;
    model.layers = 2;
    ParameterStore store = random_store(model, DType::f32);
    const TrainingBatch batch = random_batch(model, 3, 13);
    const Gradients g = gradients_of("ma:attention=2,experts=2", store, batch, {});
    const auto total = [&] {
      Engine engine(make_plan("single", model), store, {.rank = {.trainable = true}});
      const TrainingResult r = engine.gradients(batch, {});
      return r.loss + r.balance_loss + r.z_loss;
    };
    for (const Parameter& p : parameters(model)) {
      const Tensor t = store.whole(p.id);
      const auto& gradient = g.values.at(p.id);
      double norm = 0;
      for (const float v : gradient) norm += double{v} * v;
      norm = std::sqrt(norm);
      if (norm < 1e-4) continue;
      // Along the gradient itself the loss grows by its norm.
      const double step = 2e-3;
      const auto shift = [&](double by) {
        for (int64_t i = 0; i < p.elements(); ++i)
          t.row<float>(0)[i] += static_cast<float>(by * gradient[i] / norm);
      };
      shift(step);
      const double above = total();
      shift(-2 * step);
      const double below = total();
      shift(step);
      EXPECT_NEAR((above - below) / (2 * step), norm, 0.02 * norm + 2e-4) << p.name;
    }
  }
}

std::vector<double> loss_curve(const std::string& plan, const ModelConfig& model, int steps,
                               DType dtype = DType::f32,
                               GradientCoding coding = GradientCoding::plain) {
  ParameterStore store = random_store(model, dtype);
  Engine engine(make_plan(plan, model), store,
                {.rank = {.timeout_seconds = 60, .trainable = true}});
  std::vector<double> losses;
  for (int s = 1; s <= steps; ++s)
    losses.push_back(engine
                         .train(random_batch(model, 4, 20 + s % 3),
                                {.step = s, .learning_rate = 5e-4f, .seed = 5, .coding = coding})
                         .loss);
  return losses;
}

// Routing is a step function: once a rounding error tips one token to another expert, curves part.
// With small weights and steps that does not happen within fifty of them.
TEST(Training, LossCurvesOfFiftyStepsAgree) {
  ModelConfig model = small_model();
  model.initializer_range = 0.05;
  const int steps = sanitized ? 2 : 50;
  const auto expected = loss_curve("single", model, steps);
  if (steps == 50) {
    EXPECT_LT(expected.back(), expected.front() - 0.3);
  }
  for (const char* plan : {"ma:attention=8,experts=8,sequence=2", "ma:attention=5,experts=3",
                           "tp-pp:ranks=2,stages=2", "ep:ranks=4"}) {
    const auto actual = loss_curve(plan, model, steps);
    for (size_t s = 0; s < expected.size(); ++s)
      EXPECT_NEAR(actual[s], expected[s], 1e-4 * expected[s]) << plan << " step " << s;
  }
}

TEST(Training, TwoRunsAreBitIdentical) {
  const std::string plan = "ma:attention=3,experts=2,micro_batches=2";
  EXPECT_EQ(loss_curve(plan, paper_model(), 5), loss_curve(plan, paper_model(), 5));
}

TEST(Training, CodedGradientsTeachAsWell) {
  const auto curve = [](const char* plan, GradientCoding coding) {
    return loss_curve(plan, small_model(), sanitized ? 2 : 12, DType::f32, coding);
  };
  for (const char* plan : {"ep:ranks=4", "ma:attention=4,experts=2,sequence=2"}) {
    const auto plain = curve(plan, GradientCoding::plain);
    for (const GradientCoding coding :
         {GradientCoding::top_k, GradientCoding::int8, GradientCoding::top_k_int8}) {
      SCOPED_TRACE(fmt::format("{} {}", plan, static_cast<int>(coding)));
      const auto coded = curve(plan, coding);
      EXPECT_NE(coded, plain);
      if (!sanitized) {
        EXPECT_GT(coded.front() - coded.back(), 0.6 * (plain.front() - plain.back()));
      }
    }
    EXPECT_EQ(curve(plan, GradientCoding::top_k_int8), curve(plan, GradientCoding::top_k_int8));
  }
}

TEST(Training, LearnsInBf16) {
  const auto losses = loss_curve("ma:attention=2,experts=2", small_model(), 30, DType::bf16);
  EXPECT_LT(losses.back(), losses.front() - 0.3);
}

}  // namespace
}  // namespace tandem::test
