// From plan to plan while sequences are generated and models trained: nothing but who does what
// changes.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "world/processes.h"
#include "world/training.h"

namespace tandem::test {
namespace {

// Under a sanitizer, which is many times slower, a part of them.
constexpr uint64_t seeds = sanitized ? 1 : 6, deaths = sanitized ? 2 : 8,
                   every_plan = sanitized ? 4 : 1;

// Of four ranks each; none splits a sum.
const std::vector<std::string>& plans() {
  static const std::vector<std::string> all = {"ma:attention=2,experts=2",
                                               "ma:attention=3,experts=1",
                                               "ma:attention=1,experts=3,micro_batches=2",
                                               "ma:attention=2,experts=2,batch=2",
                                               "ma:attention=2,experts=2,sequence=2",
                                               "ma:attention=2,experts=2,mixed=1,replicas=2",
                                               "ep:ranks=4",
                                               "ep:ranks=2,stages=2",
                                               "pp:stages=4",
                                               "pp:stages=2,copies=2",
                                               "ma:attention=1,experts=1,copies=2",
                                               "ma:attention=1,experts=1,stages=2"};
  return all;
}

const std::string& any_plan(uint64_t seed, uint64_t index) {
  return plans()[RandomSource(seed, RandomStream::data_order).bits(0, index) % plans().size()];
}

std::vector<std::vector<int32_t>> prompts() {
  std::vector<std::vector<int32_t>> result;
  for (int i = 0; i < 5; ++i) result.push_back(random_tokens(5, i, 3 + 29 * i, 97));
  return result;
}

// Every second step is one of another plan.
void expect_bits_of_single(const ModelConfig& model, DType dtype, uint64_t seed,
                           const MakeWorld& world) {
  ParameterStore store = random_store(model, dtype);
  const Generation expected = generate(make_plan("single", model), store, prompts(), 12, 50);
  Engine engine(make_plan(any_plan(seed, 0), model), store, world);
  std::string way = engine.plan().name;
  const Generation moving = generate(engine, prompts(), 12, 50, 0, [&](int step) {
    if (step % 2 == 0) return;
    const std::string& next = any_plan(seed, step);
    way += fmt::format("; step {}: {}", step, next);
    engine.move_to(make_plan(next, model));
  });
  for (size_t s = 0; s < expected.tokens.size(); ++s) {
    EXPECT_EQ(moving.tokens[s], expected.tokens[s]) << way << ", sequence " << s;
    EXPECT_TRUE(moving.logits[s] == expected.logits[s]) << way << ", sequence " << s;
  }
}

ModelConfig with_capacity() {
  ModelConfig model = small_model();
  model.expert_capacity = 9;
  return model;
}

TEST(Move, LeavesTheBitsOfGenerationAlone) {
  for (uint64_t seed = 0; seed < seeds; ++seed)
    for (const auto& model :
         {small_model(), paper_model(), latent_model(), deepseek_model(), with_capacity()})
      for (const DType dtype : {DType::f32, DType::bf16})
        expect_bits_of_single(model, dtype, seed, local_world({.rank = {.timeout_seconds = 60}}));
}

// As balancing leaves it: each layer's experts anywhere, on some ranks none, some of them twice.
Plan shuffled(Plan plan, const ModelConfig& model, std::mt19937_64& random) {
  for (Stage& stage : plan.stages) {
    std::vector<int> ranks;
    for (const auto& replicas : stage.experts[0])
      for (const ExpertReplica& replica : replicas)
        ranks.insert(ranks.end(), replica.ranks.begin(), replica.ranks.end());
    std::ranges::sort(ranks);
    ranks.erase(std::ranges::unique(ranks).begin(), ranks.end());
    const auto all = std::ssize(ranks);
    const auto below = [&](int64_t end) { return static_cast<int64_t>(random() % end); };
    stage.experts.assign(stage.layers.size(), ExpertPlacement(model.experts));
    for (ExpertPlacement& placement : stage.experts)
      for (int64_t expert = 0; expert < model.experts; ++expert) {
        const int64_t first = expert < all ? expert : below(all);
        placement[expert] = {{{ranks[first]}}};
        if (all > 1 && below(4) == 0)
          placement[expert].push_back({{ranks[(first + 1 + below(all - 1)) % all]}});
      }
    std::ranges::shuffle(stage.experts, random);
  }
  return plan;
}

// Sequences come and go, prompts in pieces beside those that are decoded, as in a server; plans
// change at any time.
TEST(Move, AmongPromptsAndDecodingLeavesTheBitsAlone) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::bf16);
  for (uint64_t seed = 0; seed < 8 * seeds; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t end) { return static_cast<int32_t>(random() % end); };
    constexpr int slots = 6, longest = 90;
    const WorldSettings settings{.rank = {.timeout_seconds = 60}};
    Engine expected(make_plan("single", model), store, settings);
    Engine engine(make_plan(plans()[below(plans().size())], model), store, settings);
    for (Engine* e : {&engine, &expected}) e->plan_memory(slots, longest);
    std::vector<int32_t> done(slots);
    for (int step = 0; step < 40; ++step) {
      std::vector<SequenceTokens> works;
      std::vector<int32_t> released;
      for (int32_t slot = 0; slot < slots; ++slot) {
        if (done[slot] > 60 || (done[slot] > 0 && below(12) == 0)) {
          released.push_back(slot);
          done[slot] = 0;
        }
        if (below(3) == 0) continue;
        const int32_t count = done[slot] > 0 && below(4) > 0 ? 1 : 1 + below(25);
        works.push_back({.slot = slot,
                         .first_position = done[slot],
                         .tokens = random_tokens(seed, 100 * step + slot, count, 97),
                         .sample = below(4) > 0});
        done[slot] += count;
      }
      for (Engine* e : {&engine, &expected})
        if (!released.empty()) e->release(released);
      if (works.empty()) continue;
      const Sampled actual = engine.infer(works, true), wanted = expected.infer(works, true);
      ASSERT_EQ(actual.tokens, wanted.tokens) << engine.plan().name << ", step " << step;
      for (int64_t row = 0; row < wanted.logits.rows; ++row)
        ASSERT_EQ(std::memcmp(actual.logits.row_bytes(row), wanted.logits.row_bytes(row),
                              4 * static_cast<size_t>(wanted.logits.cols)),
                  0)
            << engine.plan().name << ", step " << step;
      if (below(3) == 0)
        engine.move_to(shuffled(make_plan(plans()[below(plans().size())], model), model, random));
    }
  }
}

TEST(Move, LeavesThemAloneInProcessesToo) {
  for (const int count : {2, 3, 4}) {
    Processes processes(count);
    for (uint64_t seed = 10; seed < 12; ++seed)
      expect_bits_of_single(small_model(), DType::bf16, seed, processes.world());
  }
}

// A process dies at some moment of the move, which is then finished by those that are left.
TEST(Move, OutlivesAProcess) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::bf16);
  const Generation expected = generate(make_plan("single", model), store, prompts(), 8, 50);
  for (uint64_t seed = 0; seed < deaths; ++seed) {
    Processes processes(3);
    Engine engine(make_plan(any_plan(seed, 0), model), store, processes.world());
    const std::string& next = any_plan(seed, 1);
    const Generation moving = generate(engine, prompts(), 8, 50, 0, [&](int step) {
      if (step != 4) return;
      const std::jthread killer([&] {
        const uint32_t wait_us = RandomSource(seed, RandomStream::data_order).bits(1, 0) % 20'000;
        std::this_thread::sleep_for(std::chrono::microseconds(wait_us));
        processes.kill(static_cast<int>(seed % 3));
      });
      engine.move_to(make_plan(next, model));
    });
    EXPECT_EQ(engine.plan(), make_plan(next, model));
    for (size_t s = 0; s < expected.tokens.size(); ++s) {
      EXPECT_EQ(moving.tokens[s], expected.tokens[s]) << "seed " << seed << ", sequence " << s;
      EXPECT_TRUE(moving.logits[s] == expected.logits[s]) << "seed " << seed << ", sequence " << s;
    }
  }
}

// Losses of some steps, each under the first plan; in between ranks go through `moves` and back.
std::vector<double> losses(const ModelConfig& model, DType dtype, const MakeWorld& world,
                           const std::vector<std::string>& moves, const std::string& first) {
  ParameterStore store = random_store(model, dtype);
  Engine engine(make_plan(first, model), store, world);
  std::vector<double> result;
  for (int step = 1; step <= 6; ++step) {
    for (const std::string& plan : moves) engine.move_to(make_plan(plan, model));
    if (!moves.empty()) engine.move_to(make_plan(first, model));
    result.push_back(
        engine
            .train(random_batch(model, 8, step), {.step = step, .learning_rate = 3e-3f, .seed = 9})
            .loss);
  }
  return result;
}

TEST(Move, ThereAndBackLeavesTheBitsOfTrainingAlone) {
  for (size_t i = 0; i < plans().size(); i += every_plan) {
    const std::string& first = plans()[i];
    const bool shards = i % 2 == 0;
    const DType dtype = i % 3 == 0 ? DType::bf16 : DType::f32;
    const MakeWorld world = local_world(
        {.rank = {.timeout_seconds = 60, .trainable = true, .shard_optimizer = shards}});
    const auto straight = losses(paper_model(), dtype, world, {}, first);
    const auto around =
        losses(paper_model(), dtype, world, {any_plan(3, i), any_plan(4, i)}, first);
    EXPECT_EQ(around, straight) << first << " " << dtype_name(dtype) << " " << shards;
  }
}

TEST(Move, ThereAndBackLeavesTheBitsOfTrainingAloneInProcesses) {
  Processes processes(3);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const std::string first = "ma:attention=2,experts=2";
    const auto straight = losses(small_model(), dtype, processes.world(true), {}, first);
    const auto around = losses(small_model(), dtype, processes.world(true),
                               {"ep:ranks=4", "pp:stages=4", "ma:attention=1,experts=3"}, first);
    EXPECT_EQ(around, straight) << dtype_name(dtype);
  }
}

// A step of another plan is the same step up to rounding.
TEST(Move, TrainingGoesOnUnderAnotherPlan) {
  const ModelConfig model = small_model();
  const auto train = [&](bool moves) {
    ParameterStore store = random_store(model, DType::f32);
    Engine engine(make_plan(plans()[0], model), store,
                  {.rank = {.timeout_seconds = 60, .trainable = true}});
    std::vector<double> result;
    for (int step = 1; step <= 24; ++step) {
      if (moves && step > 1) engine.move_to(make_plan(plans()[step % plans().size()], model));
      result.push_back(engine
                           .train(random_batch(model, 8, step),
                                  {.step = step, .learning_rate = 1e-3f, .seed = 9})
                           .loss);
    }
    return result;
  };
  const auto straight = train(false), moving = train(true);
  for (size_t i = 0; i < straight.size(); ++i)
    EXPECT_NEAR(moving[i], straight[i], 1e-4 * straight[i]) << "step " << i + 1;
}

TEST(Move, RefusesAnotherNumberOfRanks) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::f32);
  Engine engine(make_plan("ep:ranks=4", model), store, WorldSettings{});
  EXPECT_THROW(engine.move_to(make_plan("ep:ranks=2", model)), InputError);
  EXPECT_EQ(engine.plan(), make_plan("ep:ranks=4", model));
}

}  // namespace
}  // namespace tandem::test
