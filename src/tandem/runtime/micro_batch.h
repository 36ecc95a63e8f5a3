// The rows of one micro-batch, and which of them each attention rank works on.
#pragma once

#include <vector>

#include "tandem/plan/plan.h"
#include "tandem/runtime/command.h"

namespace tandem {

struct BatchSequence {
  Interval rows;
  int32_t slot = 0;
  int64_t first_position = 0;
  const SequenceWork* work = nullptr;
};

// One row a token; sequences stand in order of their homes, so that every batch shard of every
// stage is an interval of rows.
struct MicroBatch {
  int16_t index = 0;
  std::vector<BatchSequence> sequences;
  std::vector<int32_t> tokens, positions, targets;
  std::vector<float> weights;
  std::vector<uint64_t> keys;         // slot and position: names a token under every plan
  std::vector<int32_t> sampled_rows;  // ascending
  std::vector<int64_t> home_ends;     // rows of homes 0..h end here

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
  // Rows of a batch shard of a stage.
  Interval shard_rows(const Stage& stage, int batch) const;
  // Rebuilt in place, so that a decode loop does not allocate.
  void build(const Command& command, const Plan& plan, int copy, int group, int micro_batch);
};

inline uint64_t token_key(int32_t slot, int64_t position) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(slot)) << 32) |
         static_cast<uint64_t>(position);
}

// Whether the K/V of a sequence is kept by a rank with this role.
bool lives_on(const Plan& plan, const Role& role, const SequenceWork& work);

// How the rows of a batch shard are divided in an attention grid. Sequence shards take equal parts
// of the shard; within one, each head group is responsible for an equal part of its rows.
struct RowLayout {
  Interval shard;
  Interval compute;  // rows whose attention this rank computes (for its heads)
  Interval mine;     // rows this rank alone is responsible for
  Interval owned;    // rows of the residual stream it holds: `mine`, or `compute` if replicated
  std::vector<Interval> sequence_parts;  // of the shard
  std::vector<Interval> group_parts;     // of compute
  std::vector<Interval> owner_parts;     // of the shard: `mine` of all its ranks, in grid order

  bool replicated = false;  // every head group holds all rows of compute (Exchange::replicated)

  void build(const Stage& stage, const AttentionPlace& place, Interval shard_rows);
};

// `mine` and `owned` of every rank of a stage's grid, in grid order.
Interval responsible_rows(const Stage& stage, const AttentionPlace& place, const MicroBatch& batch);
Interval owned_rows(const Stage& stage, const AttentionPlace& place, const MicroBatch& batch);

}  // namespace tandem
