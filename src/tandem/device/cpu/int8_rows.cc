#include "tandem/device/cpu/int8_rows.h"

#include <cmath>

#include "tandem/device/block_scales.h"
#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {
namespace {

struct Block {
  float factor;
  int32_t sum;  // of the numbers
};

float factor_of(float largest, float sum) {
  return largest / static_cast<float>(largest_int8) + 0 * sum;  // nothing, if a number is none
}
float inverse_of(float largest) {
  return largest > 0 ? static_cast<float>(largest_int8) / largest : 0;
}

Block quantise(const bfloat16* from, int64_t count, int8_t* to) {
  float largest = 0, sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(to_float(from[i])));
    sum += to_float(from[i]);
  }
  const float inverse = inverse_of(largest);
  Block block{factor_of(largest, sum), 0};
  for (int64_t i = 0; i < count; ++i) {
    const float scaled = to_float(from[i]) * inverse;
    to[i] = static_cast<int8_t>(std::isfinite(scaled) ? std::lrint(scaled) : 0);
    block.sum += to[i];
  }
  return block;
}

// A whole block. The sum of floats is another one, but is a number where that is.
TANDEM_AVX512 Block quantise_whole(const bfloat16* from, int8_t* to) {
  constexpr int64_t vectors = scale_block / 16;
  __m512 numbers[vectors], most = _mm512_setzero_ps(), sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < vectors; ++i) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 16 * i));
    numbers[i] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
    most = _mm512_max_ps(most, _mm512_abs_ps(numbers[i]));
    sum = _mm512_add_ps(sum, numbers[i]);
  }
  const float largest = _mm512_reduce_max_ps(most);
  const __m512 inverse = _mm512_set1_ps(inverse_of(largest));
  __m512i total = _mm512_setzero_si512();
  for (int64_t i = 0; i < vectors; ++i) {
    // What is no number becomes the least whole one, and here the least of int8.
    const __m512i rounded = _mm512_max_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(numbers[i], inverse)),
                                             _mm512_set1_epi32(-largest_int8));
    total = _mm512_add_epi32(total, rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 16 * i), _mm512_cvtepi32_epi8(rounded));
  }
  return {factor_of(largest, _mm512_reduce_add_ps(sum)), _mm512_reduce_add_epi32(total)};
}

}  // namespace

RowsOf as_int8(const RowsOf& from, Int8Factors& factors) {
  static thread_local Scratch number_scratch, row_scratch, factor_scratch, excess_scratch;
  const int64_t blocks = blocks_to_scale(from.cols), rows = from.count();
  const int64_t step = (rows + block_columns - 1) / block_columns * block_columns;
  auto* numbers = number_scratch.get<int8_t>(rows * from.cols);
  auto** const list = row_scratch.get<const std::byte*>(rows);
  float* const columns = factor_scratch.get<float>(blocks * step);
  int32_t* const excess = excess_scratch.get<int32_t>(blocks * step);
  std::fill_n(columns, blocks * step, 0.0f);
  std::fill_n(excess, blocks * step, 0);
  const bool vectors = vnni_supported();
  for (int64_t r = 0; r < rows; ++r, numbers += from.cols) {
    const auto* row = reinterpret_cast<const bfloat16*>(from.row(r, size_of(DType::bf16)));
    list[r] = row ? reinterpret_cast<const std::byte*>(numbers) : nullptr;
    for (int64_t block = 0; row && block < blocks; ++block) {
      const int64_t first = block * scale_block, count = std::min(scale_block, from.cols - first);
      const Block made = vectors && count == scale_block
                             ? quantise_whole(row + first, numbers + first)
                             : quantise(row + first, count, numbers + first);
      columns[block * step + r] = made.factor;
      excess[block * step + r] = int8_zero * made.sum;
    }
  }
  factors = {.columns = columns, .excess = excess, .columns_step = step};
  return {{list, static_cast<size_t>(rows)}, from.cols};
}

}  // namespace tandem::cpu
