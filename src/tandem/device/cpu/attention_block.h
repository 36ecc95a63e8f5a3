// The products of attention, on the blocks of blocks.h: keys or values of one head and up to 64
// positions as panels, rows of attention (queries and their like) as strips.
#pragma once

#include "tandem/device/cpu/attention_ahead.h"
#include "tandem/device/cpu/attention_softmax.h"
#include "tandem/device/cpu/pack.h"

namespace tandem::cpu {

inline constexpr int64_t block_halves = kv_block_tokens / block_rows;

// The positions `rows` of a tensor, the columns of one head.
struct HeadBlock {
  const Tensor* tensor = nullptr;
  Interval rows, cols;

  int64_t count() const { return rows.size(); }
  const std::byte* row(int64_t position) const {
    return tensor->row_bytes(rows.begin + position) + cols.begin * size_of(tensor->dtype);
  }
};

// A panel whose lines lie behind each other.
inline Panel packed_panel(const std::byte* data) {
  return {{data, data + 16 * line_bytes}, line_bytes, block_rows * line_bytes};
}

// Positions as rows of two panels, features as depth.
struct BlockPanels {
  Panel half[block_halves];
  int64_t count = 0, lines = 0;
};
inline int64_t panels_bytes(const Engine& engine, int64_t cols) {
  return kv_block_tokens * line_bytes * engine.lines(cols);
}
// Where the rows lie if they are whole and `in_place`, else packed in `memory` (panels_bytes).
BlockPanels block_panels(const Engine& engine, const HeadBlock& block, bool in_place,
                         std::byte* memory);

// Features as rows of panels, positions as depth.
struct TurnedPanels {
  std::byte* data = nullptr;
  int64_t count = 0, lines = 0;  // features; lines of positions
  std::byte* at(int64_t panel) const { return data + panel * block_rows * line_bytes * lines; }
};
inline int64_t turned_bytes(const Engine& engine, int64_t cols) {
  return value_lines(cols) * line_bytes * engine.lines(kv_block_tokens);
}
TurnedPanels turned_panels(const Engine& engine, const HeadBlock& block, std::byte* memory);
// 32 positions of 32 features each; for processors with AVX-512.
void turn_bf16(const std::byte* from, int64_t row_step, std::byte* to, LinesAhead& ahead,
               int64_t lines);
// Meanwhile `lines` of those ahead are brought near.
void turn(const Engine& engine, const HeadBlock& block, const TurnedPanels& panels, int64_t panel,
          LinesAhead& ahead, int64_t lines);

}  // namespace tandem::cpu
