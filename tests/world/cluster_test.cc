// Ranks in processes of their own compute what ranks in threads do, to the bit, and go on when a
// process is lost.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <thread>

#include "world/processes.h"
#include "world/training.h"

namespace tandem::test {
namespace {

std::vector<std::vector<int32_t>> some_prompts(int count, int64_t vocabulary) {
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < count; ++i) prompts.push_back(random_tokens(3, i, 5 + 7 * i, vocabulary));
  return prompts;
}

void expect_same(const Generation& actual, const Generation& expected) {
  EXPECT_EQ(actual.tokens, expected.tokens);
  for (size_t s = 0; s < expected.logits.size(); ++s) {
    ASSERT_EQ(actual.logits[s].size(), expected.logits[s].size());
    EXPECT_EQ(std::memcmp(actual.logits[s].data(), expected.logits[s].data(),
                          4 * expected.logits[s].size()),
              0)
        << "sequence " << s;
  }
}

// Plans of 2 to 20 ranks, in as many processes or in fewer.
class OverProcesses : public ::testing::TestWithParam<int> {};

TEST_P(OverProcesses, EveryPlanGeneratesTheSameBits) {
  Processes processes(GetParam());
  for (const ModelConfig& model : {normed_model(), paper_model(), latent_model()}) {
    ParameterStore store = random_store(model, DType::bf16);
    const auto prompts = some_prompts(4, model.vocab_size);
    for (const std::string& text : plans_to_try(inference_plans())) {
      SCOPED_TRACE(text);
      const Plan plan = make_plan(text, model);
      Engine engine(plan, store, processes.world());
      expect_same(generate(engine, prompts, 3), generate(plan, store, prompts, 3));
    }
  }
}

TEST_P(OverProcesses, EveryPlanTrainsTheSameBits) {
  Processes processes(GetParam());
  for (const ModelConfig& model : {small_model(), paper_model()})
    for (const std::string& text : plans_to_try(training_plans())) {
      SCOPED_TRACE(text);
      ParameterStore here = random_store(model, DType::f32),
                     there = random_store(model, DType::f32);
      Engine local(make_plan(text, model), here,
                   {.rank = {.timeout_seconds = 60, .trainable = true}});
      Engine cluster(make_plan(text, model), there, processes.world(true));
      const TrainingStep step{.learning_rate = 0.01f, .groups = 2};
      for (int i = 0; i < 2; ++i) {
        const TrainingBatch batch = random_batch(model, 8, 40 + i);
        const TrainingResult expected = local.train(batch, step),
                             actual = cluster.train(batch, step);
        EXPECT_EQ(actual.loss, expected.loss);
        EXPECT_EQ(actual.gradient_norm, expected.gradient_norm);
      }
      const TrainingBatch batch = random_batch(model, 8, 50);
      EXPECT_EQ(cluster.gradients(batch, step).loss, local.gradients(batch, step).loss);
      EXPECT_EQ(collect_gradients(cluster), collect_gradients(local));
    }
}

INSTANTIATE_TEST_SUITE_P(Counts, OverProcesses,
                         ::testing::ValuesIn(sanitized ? std::vector{5} : std::vector{2, 5, 16}),
                         ::testing::PrintToStringParamName());

// ---- losses ----

constexpr int steps = 8;

Generation undisturbed(const std::string& plan, ParameterStore& store,
                       const std::vector<std::vector<int32_t>>& prompts) {
  return generate(make_plan(plan, store.config()), store, prompts, steps, 7);
}

// `disturb` happens before a step in the middle; nothing of it may show.
void expect_undisturbed(const std::string& plan, int count, double silent_seconds,
                        const std::function<void(Processes&)>& disturb,
                        const ModelConfig& model = small_model()) {
  SCOPED_TRACE(plan);
  ParameterStore store = random_store(model, DType::bf16);
  const auto prompts = some_prompts(4, model.vocab_size);
  Processes processes(count, silent_seconds);
  Engine engine(make_plan(plan, model), store, processes.world());
  const Generation actual = generate(engine, prompts, steps, 7, 0, [&](int step) {
    if (step == 5) disturb(processes);
  });
  EXPECT_GE(engine.recoveries(), 1);
  expect_same(actual, undisturbed(plan, store, prompts));
}

TEST(LostProcess, OfAttentionWithAMirror) {
  expect_undisturbed("ma:attention=4,experts=2,batch=2,sequence=2", 6, never_silent_seconds,
                     [](Processes& p) { p.kill(1); });
}
TEST(LostProcess, OfAttentionWithoutAMirror) {
  expect_undisturbed("ma:attention=3,experts=2", 5, never_silent_seconds,
                     [](Processes& p) { p.kill(1); });
}
TEST(LostProcess, OfExpertsWithAReplica) {
  expect_undisturbed("ma:attention=2,experts=3,replicas=2", 5, never_silent_seconds,
                     [](Processes& p) { p.kill(3); });
}
TEST(LostProcess, OfExpertsWithoutAReplica) {
  expect_undisturbed("ma:attention=2,experts=2", 4, never_silent_seconds,
                     [](Processes& p) { p.kill(3); });
}
TEST(LostProcess, TheFirst) {
  expect_undisturbed("ma:attention=2,experts=2", 4, never_silent_seconds,
                     [](Processes& p) { p.kill(0); });
}
TEST(LostProcess, TwoAtOnce) {
  expect_undisturbed("ma:attention=4,experts=2,batch=2,sequence=2", 6, never_silent_seconds,
                     [](Processes& p) {
                       p.kill(0);
                       p.kill(5);
                     });
}
TEST(LostProcess, AllButOne) {
  expect_undisturbed("tp-pp:ranks=4,stages=2", 4, never_silent_seconds, [](Processes& p) {
    for (const int process : {0, 1, 3}) p.kill(process);
  });
}
TEST(LostProcess, ThatIsSilent) {
  expect_undisturbed("ma:attention=2,experts=2", 4, 1.0,
                     [](Processes& p) { p.send_signal(2, SIGSTOP); });
}
// Whose experts take so many tokens of a sequence: the count goes on where it was.
TEST(LostProcess, UnderACapacity) {
  ModelConfig model = small_model();
  model.expert_capacity = 3;
  expect_undisturbed(
      "ma:attention=4,experts=2,batch=2,sequence=2", 6, never_silent_seconds,
      [](Processes& p) { p.kill(1); }, model);
}

TEST(LostProcess, IsReplacedAndGivenWork) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::bf16);
  const auto prompts = some_prompts(3, model.vocab_size);
  const std::string plan = "ma:attention=2,experts=2";
  Processes processes(4);
  Engine engine(make_plan(plan, model), store, processes.world());
  const Generation actual = generate(engine, prompts, steps, 7, 0, [&](int step) {
    if (step == 3) processes.kill(1);
    if (step == 5)  // whoever comes in its place is there by now
      while (!processes.fleet().alive(1)) std::this_thread::yield();
    if (step == 7) processes.kill(0);
  });
  EXPECT_GE(engine.recoveries(), 1);  // the second may be noticed while the newcomer is taken in
  expect_same(actual, undisturbed(plan, store, prompts));
}

TEST(LostProcess, InTrainingTheStepIsDoneAgain) {
  const ModelConfig model = small_model();
  ParameterStore here = random_store(model, DType::f32), there = random_store(model, DType::f32);
  const Plan plan = make_plan("ma:attention=2,experts=2,micro_batches=2", model);
  Engine local(plan, here, {.rank = {.timeout_seconds = 60, .trainable = true}});
  Processes processes(4);
  Engine cluster(plan, there, processes.world(true));
  TrainingStep step{.learning_rate = 0.01f};
  for (int i = 0; i < 4; ++i) {
    step.step = i + 1;
    const TrainingBatch batch = random_batch(model, 4, i);
    if (i == 2) {
      processes.kill(3);
      EXPECT_THROW(cluster.train(batch, step), StateLost);
      cluster.send_weights(there);  // from the beginning
      for (int again = 0; again < 2; ++again) {
        step.step = again + 1;
        cluster.train(random_batch(model, 4, again), step);
      }
      step.step = i + 1;
    }
    EXPECT_EQ(cluster.train(batch, step).loss, local.train(batch, step).loss);
  }
}

}  // namespace
}  // namespace tandem::test
