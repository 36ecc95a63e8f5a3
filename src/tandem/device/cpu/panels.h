// Products of whole matrices out of blocks, on the calling thread: the loops that the linear
// operations and the experts have in common.
#pragma once

#include <algorithm>
#include <span>

#include "tandem/device/block_scales.h"
#include "tandem/device/cpu/pack.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/store.h"

namespace tandem::cpu {

// Sums are handed on in this many steps, each a few hundred instructions at most. In the first
// half of them sums may still be on their way from a kernel: it is for bringing near the memory
// that the second half writes.
inline constexpr int hand_on_steps = 16;
struct HandOn {
  int begin = 0, end = 0;  // steps
  bool ends() const { return end == hand_on_steps; }
};

// Up to 32 rows of weights, in two halves of up to 16: those of one matrix, or of a gate and an up
// matrix side by side.
struct WeightRows {
  const std::byte* half[2] = {};
  int64_t count[2] = {};
  int64_t row_step = 0;  // bytes
  ScaledView scales[2];  // of each half, if they have 8 bits

  bool whole() const { return count[0] == 16 && count[1] == 16; }
  const std::byte* row(int64_t r) const { return half[r / 16] + r % 16 * row_step; }
};
// Rows [32 panel, 32 panel + 32) of a matrix, as many as there are.
WeightRows weight_rows(const Tensor& weight, int64_t panel);
// Rows [16 panel, 16 panel + 16) of both.
WeightRows weight_rows(const Tensor& gate, const Tensor& up, int64_t panel);

inline int64_t blocks_of(int64_t count) { return (count + block_rows - 1) / block_rows; }

// Rows of activations as strips: row i is column i % 32 of strip i / 32.
struct PackedRows {
  Strips strips;
  int64_t rows = 0, depth = 0;
  Int8Factors factors;  // of int8: those of the columns
};
// Strips for them, without memory yet.
PackedRows packed_rows(const Engine& engine, int64_t rows, int64_t depth);
PackedRows pack_rows(const Engine& engine, const RowsOf& from, Scratch& to);
// Of the other matrix's columns: rows are depth, column i is what row i is above.
PackedRows pack_columns(const Engine& engine, const RowsOf& from, Scratch& to);

// How many rows are packed at once, and go through all weights before the next ones do: as many as
// the second-level cache holds, since the more they are, the less often weights are read.
int64_t rows_at_once(const Engine& engine, int64_t rows, int64_t depth, int threads);

// Multiplies panels of weights by packed rows: [row of weights][row of x], in blocks of 32 x 32
// sums, or [row of x][row of weights] where an engine wants few rows to lie. Panels are read in
// place where all their rows and lines are whole. While a block is computed, the sums of the one
// before it are handed on in small steps, and what the next panel reads is brought near.
class PanelProduct {
 public:
  // What becomes of sums: body(panel, sums, rows of x, steps), for all steps in turn.
  struct Body {
    void (*run)(void* context, int64_t panel, Sums& sums, const Interval& rows, HandOn steps);
    void* context;
  };
  struct RowsAt {
    WeightRows (*get)(void* context, int64_t panel);
    void* context;
  };

  PanelProduct(const Engine& engine, const Interval& panels, const RowsAt& rows_at, int64_t depth,
               const PackedRows& x, const Body& body);
  void run();

 private:
  using RowPointers = const std::byte* [block_rows];
  // Some lines of one panel. Several panels go through depth together, so that a piece of x small
  // enough for the second-level cache serves them all.
  struct Step {
    int64_t group = 0, panel = 0;
    WeightRows rows;
    Interval lines;
  };
  // Sums that are being handed on.
  struct Done {
    int64_t panel = -1, block = 0;
    Sums* sums = nullptr;
    int step = hand_on_steps;
  };
  // What the next step reads.
  struct Ahead {
    WeightRows rows;
    Interval lines;
    int64_t passes = 0, pass_steps = 0;  // over these rows, and steps of each
    int64_t at_once = 0;                 // lines of a row in a step
  };
  Step next(const Step& step) const;
  bool at_end(const Step& step) const { return step.panel >= panels_.end; }
  Step first_of(int64_t group, int64_t line) const;
  bool in_place(const WeightRows& rows) const;
  static void list_rows(const WeightRows& rows, RowPointers& to);
  void begin(const Step& step);
  void read_factors(const WeightRows& rows, const Interval& lines);
  void multiply(const Step& step, int64_t block);
  void multiply_block(const Step& step, int64_t block, float* sums);
  void multiply_few(const Step& step, int64_t block, float* sums);
  void look_ahead(const Step& next);
  void during();
  void bring_near();
  void bring_first(const Step& step);
  static Run run_of(const WeightRows& rows, int64_t first, const Interval& lines, int64_t at_once);
  void hand_on(int end);
  Int8Factors factors_of(const Step& step, int64_t block) const;
  Panel packed_panel() const {
    return {{packed_, packed_ + 16 * line_bytes}, line_bytes, block_rows * line_bytes};
  }
  Interval x_rows(int64_t block) const {
    return {block * block_columns, std::min((block + 1) * block_columns, x_.rows)};
  }

  const Engine& engine_;
  Interval panels_;
  RowsAt rows_at_;
  int64_t depth_;
  PackedRows x_;
  Body body_;
  int64_t group_size_, blocks_, places_;
  bool few_;        // rows of x, that lie
  Panel panel_;     // of the step, as it is read
  float* factors_;  // of its rows: Int8Factors
  std::byte* packed_;
  Done done_;
  Ahead ahead_;
  int64_t block_ = 0, lines_ = 0, lines_done_ = 0;  // of the block under way
  Sums* sums_;
};

// The same with any callable: rows_at(panel), body(panel, sums, rows of x, steps).
template <class RowsAt, class Body>
void multiply_panels(const Engine& engine, const Interval& panels, const RowsAt& rows_at,
                     int64_t depth, const PackedRows& x, const Body& body) {
  const auto call_rows = [](void* context, int64_t panel) {
    return (*static_cast<const RowsAt*>(context))(panel);
  };
  const auto call_body = [](void* context, int64_t panel, Sums& sums, const Interval& rows,
                            HandOn steps) {
    (*static_cast<const Body*>(context))(panel, sums, rows, steps);
  };
  // Contexts are only read; C callbacks have no way to say so.
  PanelProduct(engine, panels, {call_rows, const_cast<RowsAt*>(&rows_at)}, depth, x,
               {call_body, const_cast<Body*>(&body)})
      .run();
}

// Sums for the row `to` has as i and the panel's row j, as PanelProduct leaves them. Those of few
// rows lie as they are stored.
inline void store_sums(const Engine& engine, Sums& sums, const Target& to, HandOn steps) {
  static_assert(hand_on_steps == store_steps);
  if (!engine.lies(static_cast<int64_t>(to.rows.size())))
    for (int step = steps.begin; step < steps.end; ++step) store_block_transposed(sums, to, step);
  else if (steps.ends())
    store_block(sums, to);
}

// Blocks of sums in this thread's scratch.
Sums* sums_scratch(int64_t blocks);

// A list of pointers to rows, kept in scratch memory by the caller.
template <class Pointer>
std::span<Pointer> pointers(Scratch& scratch, int64_t count) {
  return {scratch.get<Pointer>(count), static_cast<size_t>(count)};
}

}  // namespace tandem::cpu
