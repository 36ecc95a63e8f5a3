// Attention of few rows on AVX-512 bf16 dot products: keys and values are read where they lie, with
// positions, then features in lanes. Each number is made by the same sums in the same order as by
// AttentionPipeline on that processor, so that bits do not tell how many rows went together.
#pragma once

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
  // What lies behind a piece in memory is brought near beside the work on it: a little in each of
  // the 16 slots of a step, since many lines at once hold up the loads behind them.
  class Near {
   public:
    static constexpr int of_keys = 1, of_values = 4;  // that a slot asks for, enough for any heads

    // In so many steps, of slots that ask for so many places each.
    Near(const AttentionItem& item, const Piece& piece, int64_t steps, int places);

    template <int places>
    void slot() {
#pragma GCC unroll 4
      for (int i = 0; i < places; ++i) __builtin_prefetch(run_.at + i * apart_);
      run_.pass(places * apart_);
    }

   private:
    Run run_;
    int64_t apart_ = 0;  // bytes, up to a line
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
  Near near(const Piece& piece, bool keys, const Piece& next) const;
  void score(const Piece& piece, State& state, Near& near) const;
  void weigh(State& state, int64_t position) const;
  void add_values(const Piece& piece, State& state, Near& near) const;
  void hand_over(const State& state) const;

  const Attention& op_;
  const AttentionItem& item_;
  std::span<State> states_;
};

}  // namespace tandem::cpu
