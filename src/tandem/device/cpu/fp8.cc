#include "tandem/device/cpu/fp8.h"

#include <algorithm>
#include <cmath>

#include "tandem/device/block_scales.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"

namespace tandem::cpu {
namespace {

// body(columns) for the pieces of [0, cols) that have one factor each, where column 0 is `first` in
// the whole matrix.
template <class Body>
void for_blocks(int64_t first, int64_t cols, const Body& body) {
  for (int64_t begin = 0; begin < cols;) {
    const int64_t end = std::min(cols, begin + scale_block - (first + begin) % scale_block);
    body(Interval{begin, end});
    begin = end;
  }
}

void quantise_block(const Tensor& from, const Tensor& to, float& factor) {
  float largest = 0;
  for (int64_t r = 0; r < from.rows; ++r)
    for (int64_t c = 0; c < from.cols; ++c)
      largest = std::max(largest, std::abs(from.row<float>(r)[c]));
  factor = largest > 0 ? largest / largest_fp8 : 1;
  for (int64_t r = 0; r < from.rows; ++r)
    for (int64_t c = 0; c < from.cols; ++c)
      to.row<uint8_t>(r)[c] = float_to_fp8(from.row<float>(r)[c] / factor);
}

}  // namespace

void run(const Quantise& op, int threads) {
  const ScaledView scales = scales_of(op.to);
  TANDEM_CHECK(scales.row % scale_block == 0 && scales.col == 0 && op.from.rows == op.to.rows &&
                   op.from.cols == op.to.cols && op.from.dtype == DType::f32,
               "quantise {} x {} from row {} on", op.from.rows, op.from.cols, scales.row);
  parallel_ranges(threads, blocks_to_scale(op.to.rows), [&](const Interval& blocks) {
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const Interval rows{block * scale_block, std::min((block + 1) * scale_block, op.to.rows)};
      float* factors = scales.factors->row<float>(scales.row / scale_block + block);
      for_blocks(0, op.to.cols, [&](const Interval& cols) {
        quantise_block(op.from.slice_rows(rows).slice_cols(cols),
                       op.to.slice_rows(rows).slice_cols(cols), factors[cols.begin / scale_block]);
      });
    }
  });
}

Tensor widened(const Tensor& weight, Scratch& scratch, int threads) {
  if (weight.dtype != DType::fp8) return weight;
  Tensor to = weight;  // keeps a reference, so that it is not empty
  to.dtype = DType::bf16;
  to.stride = to.cols;
  to.data = scratch.get<std::byte>(to.bytes());
  const ScaledView scales = scales_of(weight);
  parallel_ranges(threads, weight.rows, [&](const Interval& rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const uint8_t* numbers = weight.row<uint8_t>(r);
      bfloat16* out = to.row<bfloat16>(r);
      for_blocks(scales.col, weight.cols, [&](const Interval& cols) {
        const float factor = scales.factor(r, cols.begin);
        for (int64_t c = cols.begin; c < cols.end; ++c)
          out[c] = to_bf16(fp8_to_float(numbers[c]) * factor);
      });
    }
  });
  return to;
}

}  // namespace tandem::cpu
