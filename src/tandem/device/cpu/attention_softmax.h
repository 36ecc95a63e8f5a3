// What happens to the scores of a block of keys between the products before and behind them. Rows
// of attention lie across: numbers of up to 32 rows stand side by side in a line, a lane each, so
// that nothing is ever summed across lanes and a row's bits do not depend on the lanes beside it.
#pragma once

#include <cstdint>

#include "tandem/device/cpu/blocks.h"
#include "tandem/device/operations.h"

namespace tandem::cpu {

inline constexpr float log2_e = 1.44269504f;

inline constexpr int64_t row_lanes = block_columns;
using RowLine = float[row_lanes];
using BlockScores = RowLine[kv_block_tokens];  // a line for each position of a block

// What is known of the rows so far: their weights are 2^(score - most), where `most` lies at most
// 8 below the largest score.
struct RowSums {
  RowLine* values = nullptr;  // weighted, one line for each of value_dim, padded to whole panels
  float* most = nullptr;
  float* weight = nullptr;  // sum of weights
};
inline int64_t value_lines(int64_t value_dim) {
  return (value_dim + block_rows - 1) / block_rows * block_rows;
}
inline int64_t row_sums_floats(int64_t value_dim) {
  return (value_lines(value_dim) + 2) * row_lanes;
}
RowSums row_sums(float* memory, int64_t value_dim);
// All but values, which the first block writes over.
void reset(const RowSums& sums);

// Scores of positions that a row does not see become -infinity; seen[row] is their number.
void hide_unseen(BlockScores& scores, const RowLine& seen);

// How the scores of a block become weights.
struct SoftmaxStep {
  const BlockScores* scores = nullptr;  // null: nothing to do
  RowSums sums;
  int columns = 32;                   // 16 or 32
  float scale = 1;                    // makes base-2 logarithms of scores
  const BlockScores* mask = nullptr;  // dropout: factors of the weights
  std::byte* strip = nullptr;         // where weights go, positions as depth
};
// Brings `most` and `weight` to the largest scores. True where values must follow: be multiplied by
// `shrink`.
bool softmax_raise(const SoftmaxStep& step, RowLine& shrink);
// The same with the largest scores at hand, of `columns` rows (16 or 32).
bool softmax_raise(const RowSums& sums, const RowLine& highest, int columns, float scale,
                   RowLine& shrink);
void shrink_values(RowLine* values, int64_t lines, const RowLine& shrink);

// a += b: sums of a stretch and of the one behind it.
void join(const RowSums& a, const RowSums& b, int64_t value_lines);
// Values become averages.
void divide(const RowSums& sums, int64_t value_lines);

}  // namespace tandem::cpu
