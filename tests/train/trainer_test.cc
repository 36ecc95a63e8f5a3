#include "tandem/train/trainer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <limits>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

ModelConfig tiny_model() {
  ModelConfig c;
  c.vocab_size = 256;
  c.hidden_size = 32;
  c.layers = 2;
  c.heads = c.kv_heads = 4;
  c.head_dim = 8;
  c.max_positions = 64;
  c.experts = 4;
  c.top_k = 2;
  c.expert_hidden = 24;
  c.hidden_dropout = c.expert_dropout = 0.1;
  c.balance_loss = 0.01;
  return c;
}

class Trainer : public ::testing::Test {
 protected:
  void SetUp() override {
    run_ = fs::temp_directory_path() /
           fmt::format("tandem-trainer-{}-{}", getpid(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(run_);
  }
  void TearDown() override { fs::remove_all(run_); }

  static Dataset data() {
    std::vector<int32_t> text;
    for (int i = 0; i < 6000; ++i) text.push_back((i * i / 7 + i % 13) % 256);
    return {{text}, {.sequence_tokens = 24, .seed = 3}};
  }
  TrainSettings settings(int64_t steps) const {
    return {.output = run_,
            .steps = steps,
            .batch_sequences = 6,
            .sequence_tokens = 24,
            .learning_rate = {.peak = 3e-3, .warmup_steps = 2, .total_steps = 8}};
  }
  ParameterStore fresh(DType dtype) const {
    const auto device = make_cpu_device(1);
    return ParameterStore::random(tiny_model(), 1, dtype, *device);
  }
  static WorldSettings world() { return {.rank = {.timeout_seconds = 60, .trainable = true}}; }

  // Steps from the newest checkpoint on, as a new process would.
  TrainHistory resume(const std::string& plan, DType dtype, int64_t steps) const {
    const fs::path checkpoint = *latest_checkpoint(run_);
    const auto device = make_cpu_device(1);
    ParameterStore store =
        ParameterStore::load(std::make_shared<ModelFiles>(checkpoint), dtype, true, *device);
    Engine engine(make_plan(plan, tiny_model()), store, world());
    load_optimizer(engine, checkpoint);
    const TrainerState state = load_trainer_state(checkpoint);
    return train(engine, data(), settings(steps), state, {});
  }
  TrainHistory start(const std::string& plan, DType dtype, int64_t steps) const {
    ParameterStore store = fresh(dtype);
    Engine engine(make_plan(plan, tiny_model()), store, world());
    return train(engine, data(), settings(steps), {.seed = 9}, {});
  }

  fs::path run_;
};

TEST_F(Trainer, ResumesToTheBit) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    fs::remove_all(run_);
    const TrainHistory whole = start("ma:attention=2,experts=2,micro_batches=2", dtype, 8);
    fs::remove_all(run_);
    start("ma:attention=2,experts=2,micro_batches=2", dtype, 3);
    const TrainHistory rest = resume("ma:attention=2,experts=2,micro_batches=2", dtype, 8);
    ASSERT_EQ(rest.steps.size(), 5u);
    for (size_t i = 0; i < rest.steps.size(); ++i) {
      EXPECT_EQ(rest.steps[i].result.loss, whole.steps[3 + i].result.loss) << dtype_name(dtype);
      EXPECT_EQ(rest.steps[i].result.gradient_norm, whole.steps[3 + i].result.gradient_norm);
    }
    EXPECT_EQ(rest.validation.back().loss, whole.validation.back().loss);
  }
}

TEST_F(Trainer, MovesBetweenPlans) {
  const TrainHistory whole = start("single", DType::f32, 6);
  for (const char* plan : {"single", "ma:attention=3,experts=1", "tp:ranks=2", "ep:ranks=2"}) {
    fs::remove_all(run_);
    start("ma:attention=2,experts=2,sequence=2", DType::f32, 3);
    const TrainHistory rest = resume(plan, DType::f32, 6);
    for (size_t i = 0; i < rest.steps.size(); ++i)
      EXPECT_NEAR(rest.steps[i].result.loss, whole.steps[3 + i].result.loss,
                  1e-4 * whole.steps[3 + i].result.loss)
          << plan;
  }
}

TEST_F(Trainer, AFullDiskLeavesTheOldCheckpoint) {
  start("single", DType::f32, 2);
  const fs::path before = *latest_checkpoint(run_);
  // A limit on the size of files fails writes as a full disk does.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{.rlim_cur = 20000, .rlim_max = old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(resume("single", DType::f32, 4), WorldError);
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(*latest_checkpoint(run_), before);
  EXPECT_EQ(resume("single", DType::f32, 4).steps.size(), 2u);
  for (const auto& entry : fs::directory_iterator(run_))
    EXPECT_FALSE(entry.path().string().ends_with(".partial")) << entry.path();
}

TEST_F(Trainer, StopsWhenTheLossIsNoNumber) {
  start("single", DType::f32, 2);
  const fs::path good = *latest_checkpoint(run_);
  const auto device = make_cpu_device(1);
  ParameterStore store =
      ParameterStore::load(std::make_shared<ModelFiles>(good), DType::f32, true, *device);
  Engine engine(make_plan("ma:attention=1,experts=1", tiny_model()), store, world());
  load_optimizer(engine, good);
  const TrainerState state = load_trainer_state(good);
  store.whole({ParameterKind::router, 0}).row<float>(0)[0] =
      std::numeric_limits<float>::quiet_NaN();
  try {
    train(engine, data(), settings(5), state, {});
    FAIL() << "trained on";
  } catch (const WorldError& error) {
    EXPECT_NE(std::string(error.what()).find(good.string()), std::string::npos) << error.what();
  }
  EXPECT_EQ(*latest_checkpoint(run_), good);
}

TEST_F(Trainer, AnInterruptSavesAndStops) {
  ParameterStore store = fresh(DType::f32);
  Engine engine(make_plan("single", tiny_model()), store, world());
  int asked = 0;
  const TrainHistory history =
      train(engine, data(), settings(50), {}, {.interrupted = [&] { return ++asked == 3; }});
  EXPECT_TRUE(history.interrupted);
  EXPECT_EQ(history.steps.size(), 3u);
  EXPECT_EQ(latest_checkpoint(run_)->filename(), "checkpoint-3");
}

}  // namespace
}  // namespace tandem
