// From blocks of sums to rows of matrices in memory.
#pragma once

#include <span>

#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {

using Sums = float[block_rows][block_columns];

// Where sums go: columns [first, first + cols) of rows; null for a row that is not wanted.
struct Target {
  std::span<std::byte* const> rows;
  int64_t cols = 0;
  int64_t first = 0;
  DType dtype = DType::f32;
  bool accumulate = false;
  const float* bias = nullptr;  // 32 numbers, of the first column on; may be null
};

// In `store_steps` steps, one after the other. The first half of them touches no sums, it brings
// the rows near; the others are of much the same work, and use up the sums.
inline constexpr int store_steps = 16;

// The sum for row i and column j is sums[i][j], or, transposed, sums[j][i]. At most 32 each.
void store_block(const float (*sums)[block_columns], const Target& to, int step);
void store_block_transposed(float (*sums)[block_columns], const Target& to, int step);

inline void store_block(const float (*sums)[block_columns], const Target& to) {
  for (int step = store_steps / 2; step < store_steps; ++step) store_block(sums, to, step);
}
inline void store_block_transposed(float (*sums)[block_columns], const Target& to) {
  for (int step = store_steps / 2; step < store_steps; ++step)
    store_block_transposed(sums, to, step);
}

// The same for bf16 that nothing is added to but a bias, with the processor's own rounding, which
// takes numbers too small to be normal for zero. Products leave none.
bool rounds_to_bf16();
void store_bf16_rows(const float (*sums)[block_columns], const Target& to, const Interval& rows);
// A quarter of the work on 16 rows, from `first` on.
void store_bf16_transposed(float (*sums)[block_columns], const Target& to, int64_t first,
                           int quarter);

}  // namespace tandem::cpu
