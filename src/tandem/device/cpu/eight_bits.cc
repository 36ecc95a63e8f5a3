#include "tandem/device/cpu/eight_bits.h"

#include <algorithm>
#include <bit>

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

// Ties go to the even number; what is none becomes 0. For at most 2^22: past that the sum with
// 1.5 * 2^23 has no bits for a fraction, and its last ones are the whole number.
uint8_t float_to_int8(float x) {
  const auto bits = std::bit_cast<int32_t>(x + 0x1.8p23f);
  return static_cast<uint8_t>(int8_zero + (x == x ? bits : 0));
}

// The greatest magnitude; what is no number does not count. Magnitudes are ordered as their bits
// are, and those compare without branches.
float largest_magnitude(const Tensor& t) {
  constexpr int32_t infinity = 0x7f800000;
  int32_t largest = 0;
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* row = t.row<float>(r);
    for (int64_t c = 0; c < t.cols; ++c) {
      const int32_t magnitude = std::bit_cast<int32_t>(row[c]) & 0x7fffffff;
      largest = std::max(largest, magnitude > infinity ? 0 : magnitude);
    }
  }
  return std::bit_cast<float>(largest);
}

void quantise_block(const Tensor& from, const Tensor& to, float& factor) {
  const bool fp8 = to.dtype == DType::fp8;
  const float largest = largest_magnitude(from);
  factor = largest > 0 ? largest / (fp8 ? largest_fp8 : static_cast<float>(largest_int8)) : 1;
  for (int64_t r = 0; r < from.rows; ++r) {
    const float* row = from.row<float>(r);
    uint8_t* out = to.row<uint8_t>(r);
    if (fp8)
      for (int64_t c = 0; c < from.cols; ++c) out[c] = float_to_fp8(row[c] / factor);
    else
      for (int64_t c = 0; c < from.cols; ++c) out[c] = float_to_int8(row[c] / factor);
  }
}

}  // namespace

void run(const Quantise& op, int threads) {
  const ScaledView scales = scales_of(op.to);
  TANDEM_CHECK(scales.row % scale_block == 0 && scales.col == 0 && op.from.rows == op.to.rows &&
                   op.from.cols == op.to.cols && op.from.dtype == DType::f32,
               "quantise {} x {} from row {} on", op.from.rows, op.from.cols, scales.row);
  const int64_t down = blocks_to_scale(op.to.rows), across = blocks_to_scale(op.to.cols);
  const auto block = [](int64_t i, int64_t end) {
    return Interval{i * scale_block, std::min((i + 1) * scale_block, end)};
  };
  parallel_ranges(threads, down * across, [&](const Interval& blocks) {
    for (int64_t i = blocks.begin; i < blocks.end; ++i) {
      const Interval rows = block(i / across, op.to.rows), cols = block(i % across, op.to.cols);
      quantise_block(op.from.slice_rows(rows).slice_cols(cols),
                     op.to.slice_rows(rows).slice_cols(cols),
                     scales.factors->row<float>(scales.row / scale_block + i / across)[i % across]);
    }
  });
}

bool multiplied_as_int8(const Tensor& weight) {
  return weight.dtype == DType::int8 && scales_of(weight).col % scale_block == 0;
}

Tensor widened(const Tensor& weight, Scratch& scratch, int threads) {
  if (!eight_bits(weight.dtype)) return weight;
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
          out[c] = to_bf16(eight_bits_to_float(numbers[c], weight.dtype) * factor);
      });
    }
  });
  return to;
}

}  // namespace tandem::cpu
