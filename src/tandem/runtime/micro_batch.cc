#include "tandem/runtime/micro_batch.h"

#include <algorithm>

#include "tandem/base/error.h"

namespace tandem {

void MicroBatch::build(const Command& command, const Plan& plan, int copy, int group,
                       int micro_batch) {
  index = static_cast<int16_t>(micro_batch);
  sequences.clear(), tokens.clear(), positions.clear(), targets.clear(), weights.clear();
  keys.clear(), sampled_rows.clear();
  home_ends.assign(plan.homes(), 0);
  int32_t last_home = 0;
  for (const SequenceWork& work : command.sequences) {
    if (work.copy != copy || work.group != group || work.micro_batch != micro_batch) continue;
    TANDEM_CHECK(work.home >= last_home, "sequences out of order");
    last_home = work.home;
    const auto count = static_cast<int64_t>(work.tokens.size());
    sequences.push_back({.rows = {rows(), rows() + count},
                         .slot = work.slot,
                         .first_position = work.first_position,
                         .work = &work});
    for (int64_t i = 0; i < count; ++i) {
      const int64_t position = work.first_position + i;
      positions.push_back(static_cast<int32_t>(position));
      keys.push_back(token_key(work.slot, position));
    }
    tokens.insert(tokens.end(), work.tokens.begin(), work.tokens.end());
    targets.insert(targets.end(), work.targets.begin(), work.targets.end());
    weights.insert(weights.end(), work.weights.begin(), work.weights.end());
    if (work.sample) sampled_rows.push_back(static_cast<int32_t>(rows() - 1));
    for (size_t home = work.home; home < home_ends.size(); ++home) home_ends[home] = rows();
  }
}

Interval MicroBatch::shard_rows(const Stage& stage, int batch) const {
  const int homes = static_cast<int>(home_ends.size());
  Interval rows{0, 0};
  for (int home = 0; home < homes; ++home) {
    if (home_shard(home, homes, stage) < batch) rows.begin = home_ends[home];
    if (home_shard(home, homes, stage) <= batch) rows.end = home_ends[home];
  }
  return rows;
}

void RowLayout::build(const Stage& stage, const AttentionPlace& place, Interval shard_rows) {
  const AttentionGrid& grid = stage.attention;
  shard = shard_rows;
  sequence_parts.clear(), group_parts.clear(), owner_parts.clear();
  for (int s = 0; s < grid.sequence_shards; ++s) {
    const Interval sequence_part = part(shard, grid.sequence_shards, s);
    sequence_parts.push_back(sequence_part);
    for (int g = 0; g < grid.groups(); ++g)
      owner_parts.push_back(part(sequence_part, grid.groups(), g));
  }
  compute = sequence_parts[place.sequence];
  for (int g = 0; g < grid.groups(); ++g) group_parts.push_back(part(compute, grid.groups(), g));
  mine = group_parts[place.group];
  replicated = stage.exchange == Exchange::replicated;
  owned = replicated ? compute : mine;
}

Interval responsible_rows(const Stage& stage, const AttentionPlace& place,
                          const MicroBatch& batch) {
  const Interval compute =
      part(batch.shard_rows(stage, place.batch), stage.attention.sequence_shards, place.sequence);
  return part(compute, stage.attention.groups(), place.group);
}

Interval owned_rows(const Stage& stage, const AttentionPlace& place, const MicroBatch& batch) {
  if (stage.exchange != Exchange::replicated) return responsible_rows(stage, place, batch);
  return batch.shard_rows(stage, place.batch);
}

bool lives_on(const Plan& plan, const Role& role, const SequenceWork& work) {
  return role.attention && work.copy == role.copy &&
         home_shard(work.home, plan.homes(), plan.stages[role.stage]) == role.place.batch;
}

}  // namespace tandem
