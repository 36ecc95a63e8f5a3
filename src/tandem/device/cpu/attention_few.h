// Attention of few rows on AVX-512 bf16 dot products: keys and values are read where they lie, with
// positions, then features in lanes. Each number is made by the same sums in the same order as by
// AttentionPipeline on that processor, so that bits do not tell how many rows went together.
#pragma once

#include "tandem/device/cpu/attention_ahead.h"
#include "tandem/device/cpu/attention_pipeline.h"

namespace tandem::cpu {

class AttentionFew {
 public:
  using Row = AttentionPipeline::Row;  // its queries are read in place

  // Whether it can do an item.
  static bool does(const Attention& op, const Engine& engine, const AttentionItem& item);

  // One at a time lives on a thread.
  AttentionFew(const Attention& op, const AttentionItem& item, std::span<const Row> rows);

  // The blocks of one stretch; sums begin anew.
  void run(int64_t stretch);

  // Keys or values of all heads at up to this many positions of a block, which are read as they lie
  // in memory.
  static constexpr int64_t piece_positions = 32;
  struct Piece {
    const Tensor* tensor = nullptr;
    int64_t dim = 0;  // of a head
    Interval rows;
    int64_t first = 0;  // of the block's positions
  };
  // How many lines are brought near with a piece of work.
  struct Bring {
    LinesAhead& ahead;
    int64_t lines = 0;
    Bring part(int64_t parts) const { return {ahead, (lines + parts - 1) / parts}; }
    void now() const { ahead.bring<3>(lines); }
  };

 private:
  // A unit on its way through a block.
  struct State {
    const Row* row = nullptr;
    Unit::Pointers queries;
    float* sums = nullptr;  // [row][value_dim], a line's features as pairs of positions leave them
    alignas(line_bytes) float scores[few_columns][kv_block_tokens];
    alignas(line_bytes) uint16_t weights[few_columns][kv_block_tokens];  // bf16
  };
  struct Pieces {
    Piece list[2 * kv_block_tokens / piece_positions];  // keys, then as many of values
    int64_t count = 0;
  };

  Pieces pieces(int64_t position) const;
  void block(int64_t position);
  LinesAhead lines_of(const Piece& piece) const;
  void score(const Piece& piece, State& state, const Bring& unit) const;
  void weigh(State& state, int64_t position) const;
  void add_values(const Piece& piece, State& state, const Bring& unit) const;
  void hand_over(const State& state) const;

  const Attention& op_;
  const AttentionItem& item_;
  std::span<State> states_;
};

}  // namespace tandem::cpu
