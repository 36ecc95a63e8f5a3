// Between matrices in memory and the panels, strips and blocks of blocks.h. Rows are given as
// pointers, so that picked rows cost nothing extra; a null pointer is a row of zeros.
#pragma once

#include <span>

#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {

// `cols` numbers from each of some rows, from column `first` on.
struct RowsOf {
  std::span<const std::byte* const> rows;
  int64_t cols = 0;
  int64_t first = 0;

  int64_t count() const { return static_cast<int64_t>(rows.size()); }
  // Null behind the last row as well.
  const std::byte* row(int64_t r, int64_t number_bytes) const {
    const std::byte* begin = r < count() ? rows[static_cast<size_t>(r)] : nullptr;
    return begin ? begin + first * number_bytes : nullptr;
  }
  RowsOf part(const Interval& some) const {
    return {rows.subspan(static_cast<size_t>(some.begin), static_cast<size_t>(some.size())), cols,
            first};
  }
  RowsOf columns(const Interval& some) const { return {rows, some.size(), first + some.begin}; }
};

// Everything is written whole: what is missing in a panel, a strip or its last line becomes zeros.

// Rows are rows of a panel (at most 32), columns are depth: engine.lines(cols) lines of 32 rows.
void pack_panel(const Engine& engine, const RowsOf& from, std::byte* to);
// Rows are columns of strips, columns are depth. Of a last strip with 16 rows at most, the rest
// may be left alone.
void pack_strips(const Engine& engine, const RowsOf& from, const Strips& to);
// Rows are depth, columns are rows of a panel (at most 32).
void pack_panel_transposed(const Engine& engine, const RowsOf& from, std::byte* to);
// Rows are depth, columns are columns of strips.
void pack_strips_transposed(const Engine& engine, const RowsOf& from, const Strips& to);

// Hidden features [feature][32 columns], rounded to the engine's dtype already, into a strip whose
// depth are the features. The bounds of `depth` are even where dwords are pairs.
void put_features(const Engine& engine, const float (*features)[block_columns],
                  const Interval& depth, int columns, const Strips& to, int64_t strip);

// Each number to the nearest bf16, as f32.
void round_to_bf16(float* numbers, int64_t count);

}  // namespace tandem::cpu
