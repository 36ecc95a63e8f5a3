// Products of whole matrices out of blocks, on the calling thread: the loops that the linear
// operations and the experts have in common.
#pragma once

#include <algorithm>
#include <span>

#include "tandem/device/cpu/pack.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {

// Few enough lines of a panel to stay in the first-level cache, beside the strips that stream by.
inline constexpr int64_t lines_at_once = 16;

using Sums = float[block_rows][block_columns];

// Up to 32 rows of weights, in two halves of up to 16: those of one matrix, or of a gate and an up
// matrix side by side.
struct WeightRows {
  const std::byte* half[2] = {};
  int64_t count[2] = {};
  int64_t row_step = 0;  // bytes

  bool whole() const { return count[0] == 16 && count[1] == 16; }
};
// Rows [32 panel, 32 panel + 32) of a matrix, as many as there are.
WeightRows weight_rows(const Tensor& weight, int64_t panel);
// Rows [16 panel, 16 panel + 16) of both.
WeightRows weight_rows(const Tensor& gate, const Tensor& up, int64_t panel);

inline int64_t blocks_of(int64_t count) { return (count + block_rows - 1) / block_rows; }

// Rows of activations as strips: row i is column i % 16 of strip i / 16.
struct PackedRows {
  Strips strips;
  int64_t rows = 0, depth = 0;
};
int64_t packed_bytes(const Engine& engine, int64_t rows, int64_t depth);
PackedRows pack_rows(const Engine& engine, const RowsOf& from, std::byte* to);

// How many rows are packed at once, and go through all weights before the next ones do.
int64_t rows_at_once(int64_t rows, int threads);

// One panel of weights while it is multiplied, a few lines of depth at a time.
class WeightPanel {
 public:
  WeightPanel(const Engine& engine, const WeightRows& rows, int64_t depth);

  // Whether it may be multiplied where it lies, but for its last line.
  bool in_place(int64_t x_rows) const;
  // Lines to take from `line` on.
  Interval lines_from(int64_t line, bool in_place) const;

  // Makes lines ready, here (if they are whole) or packed into this thread's scratch.
  void prepare(const Interval& lines, bool in_place);
  // sums (+)= these lines times rows of x. `next` is brought near meanwhile.
  void multiply(const PackedRows& x, const Interval& rows, const WeightPanel* next,
                Sums& sums) const;

 private:
  const Engine* engine_;
  WeightRows weights_;
  int64_t depth_;
  const std::byte* rows_[block_rows];
  Panel ready_;
  Interval lines_;
};

// Blocks of sums that outlive one step of depth, in this thread's scratch.
Sums* sums_scratch(int64_t blocks);

// For panels of weights, rows_at(panel): body(panel, sums, rows of x), the sums as
// [row of weights][row of x] for 32 rows of x at a time.
template <class RowsAt, class Body>
void multiply_panels(const Engine& engine, const Interval& panels, const RowsAt& rows_at,
                     int64_t depth, const PackedRows& x, const Body& body) {
  // Several panels go through depth together, so that a piece of x small enough for the
  // second-level cache serves them all. With few rows of x it is the weights that count: one panel,
  // in place.
  constexpr int64_t most = 8;
  const int64_t at_once = x.rows > block_columns ? most : 1, blocks = blocks_of(x.rows);
  Sums* const sums = sums_scratch(at_once * blocks);
  for (int64_t first = panels.begin; first < panels.end; first += at_once) {
    const Interval group{first, std::min(first + at_once, panels.end)};
    const bool in_place =
        at_once == 1 && WeightPanel(engine, rows_at(first), depth).in_place(x.rows);
    const int64_t last = engine.lines(depth);
    for (int64_t line = 0; line < last;) {
      Interval lines;
      for (int64_t i = group.begin; i < group.end; ++i) {
        WeightPanel panel(engine, rows_at(i), depth);
        const WeightPanel next(engine, rows_at(std::min(i + 1, panels.end - 1)), depth);
        lines = panel.lines_from(line, in_place);
        panel.prepare(lines, in_place);
        for (int64_t b = 0; b < blocks; ++b) {
          const Interval rows{b * block_columns, std::min((b + 1) * block_columns, x.rows)};
          Sums& block = sums[(i - group.begin) * blocks + b];
          panel.multiply(x, rows, &next, block);
          if (lines.end == last) body(i, block, rows);
        }
      }
      line = lines.end;
    }
  }
}

// A list of pointers to rows, kept in scratch memory by the caller.
template <class Pointer>
std::span<Pointer> pointers(Scratch& scratch, int64_t count) {
  return {scratch.get<Pointer>(count), static_cast<size_t>(count)};
}

template <class T>
std::span<T> part_of(std::span<T> all, const Interval& part) {
  return all.subspan(static_cast<size_t>(part.begin), static_cast<size_t>(part.size()));
}

}  // namespace tandem::cpu
