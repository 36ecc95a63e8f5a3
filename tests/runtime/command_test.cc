#include "tandem/runtime/command.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>

namespace tandem::test {
namespace {

std::vector<int32_t> words_of(const Report& report) {
  std::vector<int32_t> words = {1, 2, 3};  // to be written over
  to_words(report, words);
  return words;
}

TEST(Command, EveryFieldSurvivesTheWords) {
  Command sent{.kind = CommandKind::gradients,
               .slots = int64_t{1} << 40,
               .tokens_per_slot = 77,
               .want_logits = 1};
  sent.training = {.step = int64_t{1} << 33,
                   .learning_rate = 0.1f,
                   .beta1 = 0.2f,
                   .beta2 = 0.3f,
                   .epsilon = 0.4f,
                   .weight_decay = 0.5f,
                   .clip_norm = 0.6f,
                   .groups = 3,
                   .seed = ~uint64_t{0},
                   .checkpoint_activations = 1};
  sent.forget_spans = 1;
  sent.released = {5, 6, 7};
  sent.ranks = {8, 9};
  sent.sources = {-1, 10};
  sent.piece_state = PieceState::master;
  sent.first_piece = 11;
  sent.end_piece = 12;
  const std::array tokens{11, -12, std::numeric_limits<int32_t>::max()}, targets{14, 15, 16};
  const std::array weights{0.0f, 0.5f, 1.0f};
  sent.sequences.push_back({.slot = 1,
                            .copy = 2,
                            .home = 3,
                            .micro_batch = 4,
                            .group = 5,
                            .first_position = 6,
                            .sample = 1,
                            .sampling = {.temperature = 0.7f,
                                         .top_k = 8,
                                         .top_p = 0.9f,
                                         .seed = uint64_t{1} << 63,
                                         .position = 10},
                            .tokens = tokens,
                            .targets = targets,
                            .weights = weights});
  sent.sequences.emplace_back();

  Command read{.slots = 9, .released = {1, 2, 3, 4}};  // reused: nothing of it may be left
  read.sequences.resize(5, {.tokens = tokens});
  const std::vector<int32_t> words = to_words(sent);
  from_words(words, read);
  EXPECT_EQ(to_words(read), words);
  EXPECT_EQ(read.kind, sent.kind);
  EXPECT_EQ(read.slots, sent.slots);
  EXPECT_EQ(read.tokens_per_slot, 77);
  EXPECT_EQ(read.want_logits, 1);
  EXPECT_EQ(read.training.step, sent.training.step);
  EXPECT_EQ(read.training.learning_rate, 0.1f);
  EXPECT_EQ(read.training.clip_norm, 0.6f);
  EXPECT_EQ(read.training.groups, 3);
  EXPECT_EQ(read.training.seed, ~uint64_t{0});
  EXPECT_EQ(read.training.checkpoint_activations, 1);
  EXPECT_EQ(read.forget_spans, 1);
  EXPECT_EQ(read.released, sent.released);
  EXPECT_EQ(read.ranks, sent.ranks);
  EXPECT_EQ(read.sources, sent.sources);
  EXPECT_EQ(read.piece_state, PieceState::master);
  EXPECT_EQ(read.first_piece, 11);
  EXPECT_EQ(read.end_piece, 12);
  ASSERT_EQ(read.sequences.size(), 2u);
  const SequenceWork& work = read.sequences[0];
  EXPECT_EQ(work.slot, 1);
  EXPECT_EQ(work.copy, 2);
  EXPECT_EQ(work.home, 3);
  EXPECT_EQ(work.micro_batch, 4);
  EXPECT_EQ(work.group, 5);
  EXPECT_EQ(work.first_position, 6);
  EXPECT_EQ(work.sample, 1);
  EXPECT_EQ(work.sampling.temperature, 0.7f);
  EXPECT_EQ(work.sampling.top_k, 8);
  EXPECT_EQ(work.sampling.top_p, 0.9f);
  EXPECT_EQ(work.sampling.seed, uint64_t{1} << 63);
  EXPECT_EQ(work.sampling.position, 10);
  EXPECT_TRUE(std::ranges::equal(work.tokens, tokens));
  EXPECT_TRUE(std::ranges::equal(work.targets, targets));
  EXPECT_TRUE(std::ranges::equal(work.weights, weights));
  EXPECT_TRUE(read.sequences[1].tokens.empty());
}

TEST(Command, EveryKindSurvives) {
  for (const CommandKind kind :
       {CommandKind::plan_memory, CommandKind::infer, CommandKind::release, CommandKind::train,
        CommandKind::evaluate, CommandKind::gradients, CommandKind::take_weights,
        CommandKind::take_optimizer, CommandKind::give_pieces, CommandKind::restore_cache}) {
    Command read;
    from_words(to_words(Command{.kind = kind}), read);
    EXPECT_EQ(read.kind, kind);
    EXPECT_TRUE(read.sequences.empty());
  }
}

TEST(Report, EveryFieldSurvivesTheWords) {
  const Report sent{.failed = 1,
                    .error = "rank 3: peer lost \xc3\xa4",
                    .slots = {1, 2},
                    .tokens = {3, 4},
                    .loss_sum = 0.1,
                    .balance_loss = 1e300,
                    .z_loss = -0.0,
                    .token_weight = 0.3,
                    .gradient_norm = std::numeric_limits<double>::infinity(),
                    .expert_tokens = {5, 6, 7}};
  Report read{.error = "old", .slots = {9}};
  from_words(words_of(sent), read);
  EXPECT_EQ(read.failed, 1);
  EXPECT_EQ(read.error, sent.error);
  EXPECT_EQ(read.slots, sent.slots);
  EXPECT_EQ(read.tokens, sent.tokens);
  EXPECT_EQ(read.loss_sum, 0.1);
  EXPECT_EQ(read.balance_loss, 1e300);
  EXPECT_EQ(read.token_weight, 0.3);
  EXPECT_EQ(read.gradient_norm, std::numeric_limits<double>::infinity());
  EXPECT_EQ(read.expert_tokens, sent.expert_tokens);
  from_words(words_of(Report{}), read);
  EXPECT_EQ(read.error, "");
  EXPECT_TRUE(read.slots.empty());
}

TEST(Report, IsAsNewWhenCleared) {
  Report report{.failed = 1, .error = "old", .slots = {1}, .loss_sum = 2, .expert_tokens = {3}};
  report.clear();
  EXPECT_EQ(words_of(report), words_of(Report{}));
}

TEST(CommandDeathTest, TooFewWordsStopTheProgram) {
  std::vector<int32_t> words = to_words(Command{.released = {1, 2, 3}});
  words.pop_back();
  Command read;
  EXPECT_DEATH(from_words(words, read), "words too few");
}

}  // namespace
}  // namespace tandem::test
