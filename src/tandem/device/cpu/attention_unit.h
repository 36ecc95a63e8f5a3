// Up to 32 rows of attention side by side, and how numbers of theirs get from tensors to the strips
// that products read, and back.
#pragma once

#include "tandem/device/cpu/attention_softmax.h"
#include "tandem/device/cpu/attention_work.h"
#include "tandem/device/cpu/pack.h"

namespace tandem::cpu {

static_assert(unit_rows == row_lanes);

struct Unit {
  GroupRows rows;
  Interval some;  // of the rows: lane i is row some.begin + i

  int64_t count() const { return some.size(); }
  int columns() const { return count() > 16 ? 32 : 16; }
  int64_t tensor_row(int64_t lane) const { return rows.tensor_row(some.begin + lane); }
  int64_t head(int64_t lane) const { return rows.head(some.begin + lane); }
  bool sees(int64_t position) const { return rows.seen(some.end - 1, position) > 0; }
  bool sees_all(int64_t position) const {
    return rows.seen(some.begin, position) == kv_block_tokens;
  }
  // How many positions of a block each lane sees.
  void seen(int64_t position, RowLine& to) const;
  // Where the rows lie in a tensor of which every head has `dim` columns.
  using Pointers = std::byte* [unit_rows];
  std::span<std::byte* const> pointers(const Tensor& t, int64_t dim, Pointers& to) const;
  // The dropout mask of a block.
  void mask(const Dropout& dropout, int64_t first_head, int64_t position, BlockScores& to) const;
};

// Rows across, features as depth: engine.lines(dim) lines of a strip.
void pack_unit(const Engine& engine, const Unit& unit, const Tensor& t, int64_t dim, std::byte* to);
// The other way, from one line of f32 for each feature; the lines are used up.
void store_unit(const Unit& unit, RowLine* lines, int64_t dim, const Tensor& to);

}  // namespace tandem::cpu
