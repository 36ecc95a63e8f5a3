#include "tandem/runtime/micro_batch.h"

#include <gtest/gtest.h>

#include <random>

#include "tandem/plan/shorthand.h"

namespace tandem::test {
namespace {

ModelConfig model() {
  ModelConfig c;
  c.vocab_size = 50;
  c.hidden_size = 16;
  c.layers = 4;
  c.heads = c.kv_heads = 12;
  c.head_dim = 4;
  c.max_positions = 64;
  c.experts = 4;
  c.top_k = 2;
  c.expert_hidden = 8;
  return c;
}

Plan two_kinds_of_shards() {  // 3 batch shards in one stage, 2 in the other
  Plan plan = make_plan("ma:attention=6,experts=1,batch=3,stages=2", model());
  AttentionGrid& grid = plan.stages[1].attention;
  grid.batch_shards = 2;
  grid.heads = {4, 4, 4};
  validate(plan, model());
  return plan;
}

std::vector<Plan> plans() {
  std::vector<Plan> result;
  for (const char* text :
       {"single", "tp:ranks=5", "ep:ranks=4", "pp:stages=2,micro_batches=3",
        "ma:attention=8,experts=2,sequence=2", "ma:attention=12,experts=4,batch=2,sequence=3",
        "ma:attention=5,experts=3,micro_batches=4", "ma:attention=2,experts=1,copies=3,batch=2",
        "tp-pp:ranks=3,stages=2"})
    result.push_back(make_plan(text, model()));
  result.push_back(two_kinds_of_shards());
  return result;
}

// Sequences in any number and of any length in every home, some homes with none.
Command random_command(const Plan& plan, std::mt19937& random) {
  Command command{.kind = CommandKind::train};
  int32_t slot = 0;
  for (int copy = 0; copy < plan.copies; ++copy)
    for (int group = 0; group < 2; ++group)
      for (int m = 0; m < plan.micro_batches; ++m)
        for (int home = 0; home < plan.homes(); ++home)
          for (auto count = static_cast<int>(random() % 4); count > 0; --count) {
            SequenceWork work{.slot = slot++,
                              .copy = copy,
                              .home = home,
                              .micro_batch = m,
                              .group = group,
                              .first_position = static_cast<int32_t>(random() % 9),
                              .sample = static_cast<int32_t>(random() % 2)};
            constexpr int most = 20;
            static const std::vector<int32_t> numbers(most, 7);
            static const std::vector<float> ones(most, 1);
            const size_t tokens = 1 + random() % most;
            work.tokens = work.targets = std::span(numbers).first(tokens);
            work.weights = std::span(ones).first(tokens);
            command.sequences.push_back(work);
          }
  return command;
}

// body(plan, command, copy, batch) over many plans and batches.
template <class Body>
void for_many(const Body& body) {
  constexpr unsigned seed = 11;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  MicroBatch batch;  // one for all: it is rebuilt in place
  for (const Plan& plan : plans())
    for (int round = 0; round < 10; ++round) {
      const Command command = random_command(plan, random);
      for (int copy = 0; copy < plan.copies; ++copy)
        for (int m = 0; m < plan.micro_batches; ++m) {
          SCOPED_TRACE(plan.name);
          batch.build(command, plan, copy, round % 2, m);
          body(plan, command, copy, round % 2, batch);
        }
    }
}

TEST(MicroBatch, HoldsEachOfItsTokensOnce) {
  for_many([](const Plan&, const Command& command, int copy, int group, const MicroBatch& batch) {
    int64_t row = 0;
    size_t sequence = 0, sampled = 0;
    for (const SequenceWork& work : command.sequences) {
      if (work.copy != copy || work.group != group || work.micro_batch != batch.index) continue;
      ASSERT_LT(sequence, batch.sequences.size());
      const BatchSequence& own = batch.sequences[sequence++];
      EXPECT_EQ(own.work, &work);
      EXPECT_EQ(own.rows, (Interval{row, row + static_cast<int64_t>(work.tokens.size())}));
      for (size_t i = 0; i < work.tokens.size(); ++i, ++row) {
        EXPECT_EQ(batch.tokens[row], work.tokens[i]);
        EXPECT_EQ(batch.targets[row], work.targets[i]);
        EXPECT_EQ(batch.positions[row], work.first_position + static_cast<int32_t>(i));
        EXPECT_EQ(batch.keys[row], token_key(work.slot, batch.positions[row]));
      }
      if (work.sample) {
        EXPECT_EQ(batch.sampled_rows[sampled++], row - 1);
      }
    }
    EXPECT_EQ(sequence, batch.sequences.size());
    EXPECT_EQ(sampled, batch.sampled_rows.size());
    EXPECT_EQ(row, batch.rows());
    EXPECT_EQ(batch.weights.size(), static_cast<size_t>(row));
  });
}

TEST(MicroBatch, ShardsOfAStagePartitionRowsAtBordersOfSequences) {
  for_many([](const Plan& plan, const Command&, int, int, const MicroBatch& batch) {
    for (const Stage& stage : plan.stages) {
      int64_t next = 0;
      for (int b = 0; b < stage.attention.batch_shards; ++b) {
        const Interval shard = batch.shard_rows(stage, b);
        EXPECT_EQ(shard.begin, next);
        EXPECT_GE(shard.size(), 0);
        next = shard.end;
        for (const BatchSequence& sequence : batch.sequences) {
          const bool here = home_shard(sequence.work->home, plan.homes(), stage) == b;
          EXPECT_EQ(shard.contains(sequence.rows), here);
        }
      }
      EXPECT_EQ(next, batch.rows());
    }
  });
}

TEST(RowLayout, OneRankIsResponsibleForEachRowAndEveryHeadIsComputed) {
  for_many([](const Plan& plan, const Command&, int, int, const MicroBatch& batch) {
    for (const Stage& stage : plan.stages) {
      const AttentionGrid& grid = stage.attention;
      std::vector<int> responsible(batch.rows()), heads(batch.rows());
      for (int i = 0; i < static_cast<int>(grid.ranks.size()); ++i) {
        const AttentionPlace place = place_of(grid, i);
        RowLayout layout;
        layout.build(stage, place, batch.shard_rows(stage, place.batch));
        for (int64_t row = layout.mine.begin; row < layout.mine.end; ++row) ++responsible[row];
        for (int64_t row = layout.compute.begin; row < layout.compute.end; ++row)
          heads[row] += grid.heads[place.group];
        EXPECT_TRUE(layout.owned.contains(layout.mine));
        EXPECT_EQ(layout.owned, layout.replicated ? layout.compute : layout.mine);
        EXPECT_EQ(layout.mine, responsible_rows(stage, place, batch));
        EXPECT_EQ(layout.owned, owned_rows(stage, place, batch));
        EXPECT_EQ(layout.owner_parts[place.sequence * grid.groups() + place.group], layout.mine);
        EXPECT_EQ(layout.sequence_parts[place.sequence], layout.compute);
        // Parts stand in order and leave no gap, as collectives want them.
        for (const auto& [parts, whole] : {std::pair(&layout.owner_parts, layout.shard),
                                           std::pair(&layout.sequence_parts, layout.shard),
                                           std::pair(&layout.group_parts, layout.compute)}) {
          int64_t next = whole.begin;
          for (const Interval& part : *parts) {
            EXPECT_EQ(part.begin, next);
            next = part.end;
          }
          EXPECT_EQ(next, whole.end);
        }
      }
      EXPECT_EQ(responsible, std::vector<int>(batch.rows(), 1));
      EXPECT_EQ(heads, std::vector<int>(batch.rows(), static_cast<int>(model().heads)));
    }
  });
}

TEST(HomeShard, HomesAreDealtToShardsInOrder) {
  Stage stage;
  for (const int shards : {1, 2, 3, 4}) {
    stage.attention.batch_shards = shards;
    for (const int homes : {4, 6}) {
      int last = 0;
      for (int home = 0; home < homes; ++home) {
        const int shard = home_shard(home, homes, stage);
        EXPECT_TRUE(shard == last || shard == last + 1);
        last = shard;
      }
      EXPECT_EQ(last, shards - 1);
    }
  }
}

}  // namespace
}  // namespace tandem::test
