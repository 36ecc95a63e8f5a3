#include "tandem/serve/scheduler.h"

#include <gtest/gtest.h>

#include "serve/model.h"
#include "tandem/serve/answer.h"
#include "tandem/text/utf8.h"

namespace tandem::test {
namespace {

CompletionRequest request(std::vector<int32_t> prompt, int64_t max_tokens, int64_t choices = 1) {
  return {.prompts = {std::move(prompt)},
          .choices = choices,
          .max_tokens = {max_tokens},
          .sampling = {.temperature = 1, .seed = 11},
          .ignores_end = true};
}

constexpr double no_deadline = std::numeric_limits<double>::infinity();

// All of an answer, by choice; waits as long as it takes.
struct Whole {
  std::vector<std::string> texts;
  std::vector<Finish> finishes;
};
Whole wait_for(Answer& answer, size_t choices) {
  Whole whole{.texts = std::vector<std::string>(choices), .finishes = std::vector<Finish>(choices)};
  while (!answer.ended())
    for (const Piece& piece : answer.take(1)) {
      whole.texts[piece.choice] += piece.text;
      if (piece.finish) whole.finishes[piece.choice] = *piece.finish;
    }
  return whole;
}

std::string text_of(const std::vector<int32_t>& tokens) {
  std::string bytes, text;
  const auto model = served_model(0);
  for (const int32_t token : tokens) bytes += model->text.token_text(token);
  text::append_repaired(text, bytes);
  return text;
}

TEST(Scheduler, ChoicesDrawWithSeedsThatFollowEachOther) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  Scheduler scheduler(*engine, {.sequences = 3});
  const CompletionRequest wanted = request({1, 2, 3}, 20, 5);
  Answer answer(wanted, *model, no_deadline);
  ASSERT_FALSE(scheduler.submit(answer.sequences()));
  const Whole whole = wait_for(answer, 5);
  for (uint64_t i = 0; i < 5; ++i)
    EXPECT_EQ(whole.texts[i], text_of(alone({1, 2, 3}, 20, {.temperature = 1, .seed = 11 + i})));
  EXPECT_EQ(answer.answer_tokens(), 100);
}

TEST(Scheduler, StopsBeforeAStopText) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  Scheduler scheduler(*engine, {});
  const std::string text = text_of(alone({1, 2, 3}, 40, {.temperature = 1, .seed = 11}));
  CompletionRequest wanted = request({1, 2, 3}, 40);
  wanted.stops = {text.substr(text.size() / 2, 9)};
  Answer answer(wanted, *model, no_deadline);
  ASSERT_FALSE(scheduler.submit(answer.sequences()));
  const Whole whole = wait_for(answer, 1);
  EXPECT_EQ(whole.finishes[0], Finish::stopped);
  EXPECT_EQ(whole.texts[0], text.substr(0, text.find(wanted.stops[0])));
}

TEST(Scheduler, RefusesWhatTheQueueHasNoPlaceFor) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  // The one place is taken as long as the step waits.
  std::mutex mutex;
  std::unique_lock hold(mutex);
  std::atomic<bool> stepped = false;
  Scheduler scheduler(*engine, {.sequences = 1, .waiting = 2}, [&](Engine&) {
    stepped = true;
    const std::lock_guard wait(mutex);
  });
  const CompletionRequest wanted = request({1, 2, 3}, 3);
  std::vector<std::unique_ptr<Answer>> answers;
  const auto submit = [&] {
    answers.push_back(std::make_unique<Answer>(wanted, *model, no_deadline));
    return scheduler.submit(answers.back()->sequences());
  };
  EXPECT_FALSE(submit());
  while (!stepped) std::this_thread::yield();
  EXPECT_FALSE(submit());
  EXPECT_FALSE(submit());
  EXPECT_EQ(submit(), Refusal::queue_full);
  answers.pop_back();
  hold.unlock();
  for (const auto& answer : answers) EXPECT_EQ(wait_for(*answer, 1).finishes[0], Finish::length);
}

TEST(Scheduler, WhenTheEngineFailsEveryoneIsTold) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  int steps = 0;
  Scheduler scheduler(*engine, {.sequences = 1}, [&](Engine&) {
    if (++steps == 3) throw WorldError("rank 0 is lost");
  });
  const CompletionRequest wanted = request({1, 2, 3}, 30, 4);
  Answer answer(wanted, *model, no_deadline);
  ASSERT_FALSE(scheduler.submit(answer.sequences()));
  for (const Finish finish : wait_for(answer, 4).finishes) EXPECT_EQ(finish, Finish::failed);
  EXPECT_EQ(scheduler.failure(), "rank 0 is lost");
  EXPECT_EQ(scheduler.submit({}), Refusal::failed);
}

TEST(Scheduler, DrainsAndTakesNoMore) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  Scheduler scheduler(*engine, {.sequences = 2});
  const CompletionRequest wanted = request({1, 2, 3}, 30, 4);
  Answer answer(wanted, *model, no_deadline);
  ASSERT_FALSE(scheduler.submit(answer.sequences()));
  EXPECT_TRUE(scheduler.drain(600));
  EXPECT_EQ(scheduler.submit({}), Refusal::shutting_down);
  for (const Finish finish : wait_for(answer, 4).finishes) EXPECT_EQ(finish, Finish::length);
}

TEST(Scheduler, AnAnswerThatIsLetGoIsCancelled) {
  const auto engine = tiny_engine();
  const auto model = served_model(512);
  Scheduler scheduler(*engine, {});
  const CompletionRequest wanted = request({1, 2, 3}, 500);
  {
    Answer answer(wanted, *model, no_deadline);
    ASSERT_FALSE(scheduler.submit(answer.sequences()));
    answer.take(60);
  }
  EXPECT_TRUE(scheduler.drain(600));
  EXPECT_EQ(scheduler.statistics().load().kv_used_tokens, 0);
}

TEST(Scheduler, TellsWhatTheRanksDo) {
  const auto engine = tiny_engine("ma:attention=2,experts=1");
  const auto model = served_model(512);
  Scheduler scheduler(*engine, {});
  const CompletionRequest wanted = request({1, 2, 3}, 10);
  Answer answer(wanted, *model, no_deadline);
  ASSERT_FALSE(scheduler.submit(answer.sequences()));
  while (scheduler.figures()->timeline.empty()) answer.take(0.01);
  EXPECT_EQ(scheduler.figures()->timeline.size(), 3u);
  EXPECT_FALSE(scheduler.figures()->expert_tokens.empty());
  EXPECT_EQ(scheduler.figures()->metrics.attention.ranks, 2);
}

TEST(Scheduler, RefusesSettingsThatMakeNoSense) {
  const auto engine = tiny_engine();
  EXPECT_THROW(Scheduler(*engine, {.sequences = 0}), InputError);
  EXPECT_THROW(Scheduler(*engine, {.kv_tokens = -1}), InputError);
  EXPECT_THROW(Scheduler(*engine, {.prefill_chunk = 0}), InputError);
  EXPECT_THROW(Scheduler(*engine, {.waiting = 0}), InputError);
}

}  // namespace
}  // namespace tandem::test
