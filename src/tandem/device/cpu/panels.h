// Products of whole matrices out of blocks, on the calling thread: the loops that the linear
// operations and the experts have in common.
#pragma once

#include <span>

#include "tandem/device/cpu/pack.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {

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

// How many rows are packed at once: as many as stay in the second-level cache, and no more than
// gives each thread some.
int64_t rows_at_once(const Engine& engine, int64_t rows, int64_t depth, int threads);

// Sums [row of weights][row of x], for 32 rows of x at a time.
class WeightPanel {
 public:
  // `next` is the panel that will be computed after this one; it is read ahead.
  WeightPanel(const Engine& engine, const WeightRows& rows, const WeightRows& next, int64_t depth);

  template <class Body>  // body(sums, rows of x)
  void times(const PackedRows& x, const Body& body) const {
    Sums* const sums = sums_for(x.rows);
    const int64_t last = engine_.lines(depth_);
    for (Step step = first_step(x.rows);; step = step_from(step.lines.end)) {
      for (int64_t begin = 0; begin < x.rows; begin += block_columns) {
        const Interval rows{begin, std::min(begin + block_columns, x.rows)};
        Sums& block = sums[begin / block_columns];
        multiply(step, x, rows, block);
        if (step.lines.end == last) body(block, rows);
      }
      if (step.lines.end == last) return;
    }
  }

 private:
  // Some lines of the panel, in place or packed.
  struct Step {
    Panel panel;
    Interval lines;
  };

  static Sums* sums_for(int64_t x_rows);
  Step first_step(int64_t x_rows) const;
  Step step_from(int64_t line) const;
  void multiply(const Step& step, const PackedRows& x, const Interval& rows, Sums& sums) const;
  RowsOf rows() const { return {rows_, depth_}; }

  const Engine& engine_;
  WeightRows weights_;
  int64_t depth_;
  const std::byte *rows_[block_rows], *next_[block_rows];
};

// A list of pointers to rows, kept in scratch memory by the caller.
template <class Pointer>
std::span<Pointer> pointers(Scratch& scratch, int64_t count) {
  return {scratch.get<Pointer>(count), static_cast<size_t>(count)};
}

}  // namespace tandem::cpu
