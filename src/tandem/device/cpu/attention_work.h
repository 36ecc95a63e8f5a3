// How attention is cut into pieces that threads take one by one. The cut never shows in the result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tandem/device/operations.h"

namespace tandem::cpu {

// Sums over the positions of a stretch begin anew, and those of stretches are joined in order. The
// borders are part of the result's bits; threads may share a sequence at them.
inline constexpr int64_t stretch_tokens = 16 * kv_block_tokens;
inline int64_t stretches_of(int64_t keys) { return (keys + stretch_tokens - 1) / stretch_tokens; }

// Query heads that share a head of keys and values: they stand side by side.
struct HeadGroup {
  int64_t kv_head = 0;
  Interval heads;
  int64_t size() const { return heads.size(); }
};
// Written over; the caller keeps the memory from call to call.
void head_groups(const AttentionHeads& heads, std::vector<HeadGroup>& groups);

// Rows that share keys and values; a row is one query of one head: query by query, head by head.
struct GroupRows {
  const AttentionSequence* sequence = nullptr;
  const HeadGroup* group = nullptr;
  Interval queries;  // counted from the sequence's first query row

  int64_t count() const { return queries.size() * group->size(); }
  int64_t head(int64_t i) const { return group->heads.begin + i % group->size(); }
  int64_t query(int64_t i) const { return queries.begin + i / group->size(); }
  int64_t tensor_row(int64_t i) const { return sequence->query_rows.begin + query(i); }
  int64_t key_count() const { return sequence->first_position + queries.end; }
  // How many positions of the block that begins at `position` row i sees: none where negative.
  int64_t seen(int64_t i, int64_t position) const {
    return std::min(kv_block_tokens, sequence->first_position + query(i) + 1 - position);
  }
  // The rows that see any of them.
  Interval seeing(int64_t position) const {
    const int64_t earlier = position - sequence->first_position - queries.begin;
    return {std::clamp<int64_t>(earlier, 0, queries.size()) * group->size(), count()};
  }
  // Where a block lies, and how many of its positions there are: none behind the last.
  Interval block(int64_t position) const {
    const int64_t there = std::min(kv_block_tokens, key_count() - position);
    if (there <= 0) return {};
    const int64_t row = sequence->block_rows[static_cast<size_t>(position / kv_block_tokens)];
    return {row, row + there};
  }
  uint64_t dropout_key(const Dropout& dropout, int64_t first_head, int64_t i) const {
    return mix(dropout.keys[static_cast<size_t>(tensor_row(i))],
               static_cast<uint64_t>(first_head + head(i)));
  }
};

// How many queries of a group go together: enough rows that packing a block is little beside its
// use, and few enough that what is kept of them stays in the second-level cache.
int64_t queries_at_once(const AttentionHeads& heads, const HeadGroup& group);

// Some queries of a sequence for consecutive groups, over some stretches of its keys. Where a
// sequence has few queries, groups go together, so that keys and values are read as they lie in
// memory.
struct AttentionItem {
  const AttentionSequence* sequence = nullptr;
  std::span<const HeadGroup> groups;
  Interval queries;
  Interval stretches;
  int64_t first_unit = 0;  // units of the items before this one

  GroupRows rows(size_t group) const { return {sequence, &groups[group], queries}; }
  int64_t key_count() const { return rows(0).key_count(); }
  // Else it is one stretch of several; the items of the others stand beside it, in order.
  bool whole() const { return stretches.size() == stretches_of(key_count()); }
};
// Up to this many rows of one group are computed side by side.
inline constexpr int64_t unit_rows = 32;
int64_t units_of(const AttentionItem& item);

// Written over, like head_groups. Items have all stretches unless `stretches_apart`.
void attention_items(const AttentionHeads& heads, std::span<const AttentionSequence> sequences,
                     std::span<const HeadGroup> groups, int threads, bool stretches_apart,
                     std::vector<AttentionItem>& items);

}  // namespace tandem::cpu
