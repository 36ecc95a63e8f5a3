#include "tandem/serve/schedule.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "serve/model.h"

namespace tandem::test {
namespace {

struct Recorder final : SequenceListener {
  std::vector<int32_t> tokens;
  std::optional<Finish> finish;
  bool is_wanted = true;
  size_t enough = SIZE_MAX;  // tokens

  bool wanted() const override { return is_wanted; }
  bool on_token(int32_t token, std::span<const float>) override {
    tokens.push_back(token);
    return tokens.size() < enough;
  }
  void on_finish(Finish how) override {
    ASSERT_FALSE(finish) << "told twice";
    finish = how;
  }
};

// A schedule whose steps are run by an engine, or, where only the order counts, by nobody.
struct Bench {
  Bench(int places, int64_t slots, int64_t blocks, int64_t prefill_chunk)
      : schedule(Room(places, slots, blocks), prefill_chunk, statistics) {}

  std::shared_ptr<Recorder> add(std::vector<int32_t> prompt, int64_t max_tokens,
                                const Sampling& sampling = {}) {
    auto recorder = std::make_shared<Recorder>();
    schedule.add({.prompt = std::move(prompt),
                  .max_tokens = max_tokens,
                  .sampling = sampling,
                  .listener = recorder},
                 0);
    return recorder;
  }

  // Every sequence draws token 7. What the step was.
  Schedule::Step pretend() {
    const Schedule::Step step = schedule.next_step(0);
    Sampled sampled;
    for (const SequenceTokens& item : step.work)
      if (item.sample) sampled.tokens.push_back(7);
    schedule.take(sampled, 0);
    return step;
  }

  bool run(Engine& engine) {
    const Schedule::Step step = schedule.next_step(0);
    if (!step.released.empty()) engine.release(step.released);
    if (step.work.empty()) return false;
    schedule.take(engine.infer(step.work, step.wants_logits), 0);
    return true;
  }

  Statistics statistics;
  Schedule schedule;
};

std::map<int32_t, size_t> tokens_by_slot(const Schedule::Step& step) {
  std::map<int32_t, size_t> tokens;
  for (const SequenceTokens& item : step.work) tokens[item.slot] = item.tokens.size();
  return tokens;
}

TEST(Schedule, SharesPrefillEvenlyAndGivesTheRestToTheOldest) {
  Bench bench(1, 4, 64, 90);
  bench.add(random_prompt(1, 0, 200), 1);
  bench.add(random_prompt(1, 1, 10), 5);
  bench.add(random_prompt(1, 2, 200), 1);
  EXPECT_EQ(tokens_by_slot(bench.pretend()),
            (std::map<int32_t, size_t>{{0, 50}, {1, 10}, {2, 30}}));
  // The short one decodes beside the prompts, which have the chunk for themselves.
  EXPECT_EQ(tokens_by_slot(bench.pretend()), (std::map<int32_t, size_t>{{0, 45}, {1, 1}, {2, 45}}));
}

TEST(Schedule, AStepOfFewerTokensThanPromptsServesTheOldest) {
  Bench bench(1, 4, 64, 2);
  for (int i = 0; i < 4; ++i) bench.add(random_prompt(1, i, 5), 1);
  EXPECT_EQ(tokens_by_slot(bench.pretend()), (std::map<int32_t, size_t>{{0, 2}}));
}

TEST(Schedule, AdmitsInTheOrderOfArrival) {
  Bench bench(1, 2, 4, 1000);  // 4 blocks of 64 tokens
  const auto first = bench.add(random_prompt(1, 0, 100), 2);
  const auto large = bench.add(random_prompt(1, 1, 200), 1);
  const auto small = bench.add(random_prompt(1, 2, 10), 1);
  EXPECT_EQ(bench.pretend().work.size(), 1u);  // the small one does not pass the large one
  bench.pretend();
  EXPECT_TRUE(first->finish);
  EXPECT_FALSE(small->finish);
  bench.pretend();
  EXPECT_TRUE(large->finish);
  bench.pretend();
  EXPECT_TRUE(small->finish);
}

TEST(Schedule, FinishesForEachReasonAndGivesTheRoomBack) {
  Bench bench(2, 4, 16, 1000);
  const auto length = bench.add({1, 2, 3}, 2);
  const auto stopped = bench.add({1, 2, 3}, 9);
  stopped->enough = 2;
  const auto cancelled = bench.add({1, 2, 3}, 9);
  auto recorder = std::make_shared<Recorder>();
  bench.schedule.add({.prompt = {1}, .max_tokens = 9, .end_token = 7, .listener = recorder}, 0);
  const auto waits = bench.add({1, 2, 3}, 9);  // slots are for four
  auto late = std::make_shared<Recorder>();
  bench.schedule.add({.prompt = {1}, .max_tokens = 9, .deadline_seconds = 0, .listener = late}, 0);
  bench.pretend();
  EXPECT_EQ(late->finish, Finish::timed_out);
  EXPECT_EQ(recorder->finish, Finish::end_token);
  EXPECT_TRUE(recorder->tokens.empty());
  cancelled->is_wanted = false;
  bench.pretend();
  EXPECT_EQ(length->finish, Finish::length);
  EXPECT_EQ(stopped->finish, Finish::stopped);
  EXPECT_EQ(cancelled->finish, Finish::cancelled);
  EXPECT_EQ(cancelled->tokens.size(), 1u);
  bench.schedule.finish_all(Finish::failed);
  EXPECT_EQ(waits->finish, Finish::failed);
  EXPECT_EQ(bench.schedule.room().used_tokens(), 0);
}

TEST(Schedule, PreemptsTheYoungestOfThePlaceThatIsFull) {
  Bench bench(2, 4, 2, 1000);  // two blocks at each place; slots 0, 2 and 1, 3
  const auto a = bench.add(random_prompt(1, 0, 60), 60);  // place 0
  const auto b = bench.add(random_prompt(1, 1, 60), 60);  // place 1
  for (int i = 0; i < 10; ++i) bench.pretend();
  EXPECT_EQ(bench.statistics.counts().preemptions, 0);
  EXPECT_EQ(bench.schedule.running(), 2);
  const auto c = bench.add(random_prompt(1, 2, 10), 100);  // no place has a block to spare
  bench.pretend();
  EXPECT_EQ(bench.schedule.waiting(), 1);
  for (int i = 0; i < 300; ++i) bench.pretend();
  for (const auto& sequence : {a, b, c}) EXPECT_EQ(sequence->finish, Finish::length);
}

// The one property that matters: whoever else runs, in whatever order, with whatever room, every
// sequence draws what it draws alone.
void expect_what_is_drawn_alone(const std::string& plan, int64_t slots, int64_t blocks,
                                int64_t chunk, bool wants_preemption) {
  SCOPED_TRACE(fmt::format("{}, {} slots, {} blocks, chunks of {}", plan, slots, blocks, chunk));
  const auto engine = tiny_engine(plan);
  const int places = engine->plan().copies * engine->plan().homes();
  const int64_t slots_at_place = (slots + places - 1) / places;
  engine->plan_memory(slots, blocks / slots_at_place * kv_block_tokens);
  Bench bench(places, slots, blocks / slots_at_place * slots_at_place, chunk);
  struct Case {
    std::vector<int32_t> prompt;
    int64_t new_tokens;
    Sampling sampling;
    std::shared_ptr<Recorder> recorder;
  };
  std::vector<Case> cases;
  for (int i = 0; i < 10; ++i)
    cases.push_back({.prompt = random_prompt(9, i, 1 + 23 * i % 90),
                     .new_tokens = 60 + 37 * i % 110,
                     .sampling = {.temperature = i % 3 == 0 ? 0.0f : 1.0f,
                                  .top_k = i % 2 ? 40 : 0,
                                  .top_p = 0.95f,
                                  .seed = static_cast<uint64_t>(i / 2)}});
  for (int step = 0; step < 12 || bench.schedule.running() + bench.schedule.waiting() > 0; ++step) {
    if (step < 10) {  // they come one after the other
      Case& c = cases[3 * step % 10];
      c.recorder = bench.add(c.prompt, c.new_tokens, c.sampling);
    }
    if (step == 11) cases[4].recorder->is_wanted = false;
    bench.run(*engine);
  }
  EXPECT_EQ(bench.statistics.counts().preemptions > 0, wants_preemption);
  EXPECT_EQ(bench.schedule.room().used_tokens(), 0);
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    std::vector<int32_t> expected = alone(c.prompt, c.new_tokens, c.sampling);
    if (i == 4) {
      EXPECT_EQ(c.recorder->finish, Finish::cancelled);
      expected.resize(c.recorder->tokens.size());
    } else {
      EXPECT_EQ(c.recorder->finish, Finish::length);
    }
    EXPECT_EQ(c.recorder->tokens, expected) << "sequence " << i;
  }
}

TEST(Schedule, DrawsWhatIsDrawnAlone) {
  expect_what_is_drawn_alone("single", 10, 40, 512, false);
  expect_what_is_drawn_alone("single", 4, 16, 7, false);
  expect_what_is_drawn_alone("ma:attention=3,experts=2,micro_batches=2", 10, 40, 32, false);
}

TEST(Schedule, DrawsWhatIsDrawnAloneUnderPreemption) {
  expect_what_is_drawn_alone("single", 5, 5, 512, true);
  expect_what_is_drawn_alone("single", 10, 10, 16, true);
  expect_what_is_drawn_alone("ma:attention=2,experts=2,micro_batches=2", 5, 5, 40, true);
}

// Sequences live on one of several ranks, each with K/V of its own.
TEST(Schedule, DrawsWhatIsDrawnAloneAtSeveralPlaces) {
  expect_what_is_drawn_alone("ep:ranks=2", 8, 4, 64, true);
  expect_what_is_drawn_alone("ma:attention=4,experts=2,batch=2,sequence=2", 6, 6, 64, true);
  expect_what_is_drawn_alone("ma:attention=2,experts=1,copies=2", 9, 5, 64, true);
}

}  // namespace
}  // namespace tandem::test
