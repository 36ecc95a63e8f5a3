#include <algorithm>

#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/store.h"

#define TANDEM_BF16 __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define TANDEM_BF16_INLINE TANDEM_BF16 __attribute__((always_inline)) inline

namespace tandem::cpu {
namespace {

// 16 numbers of each, the first ones in the lower half.
TANDEM_BF16_INLINE __m512i rounded(__m512 first, __m512 second) {
  return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

// The first `count` of 32.
TANDEM_BF16_INLINE void store_run(__m512i numbers, std::byte* to, int64_t count) {
  if (count >= block_columns) return _mm512_storeu_si512(to, numbers);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
  _mm512_mask_storeu_epi16(to, mask, numbers);
}

// 16 columns of 8 rows of sums, each row with a number of `bias` added, become pairs of bf16:
// turned within lanes, in the place of the first four rows.
TANDEM_BF16_INLINE void turn_pairs(float (*sums)[block_columns], int64_t column,
                                   const float* bias) {
  alignas(64) static constexpr uint16_t in_turn[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                       21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                       11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  __m512i pairs[4], turned[4];
  for (int i = 0; i < 4; ++i) {
    __m512 even = _mm512_loadu_ps(sums[2 * i] + column);
    __m512 odd = _mm512_loadu_ps(sums[2 * i + 1] + column);
    if (bias) {
      even = _mm512_add_ps(even, _mm512_set1_ps(bias[2 * i]));
      odd = _mm512_add_ps(odd, _mm512_set1_ps(bias[2 * i + 1]));
    }
    pairs[i] = _mm512_permutexvar_epi16(_mm512_load_si512(in_turn), rounded(even, odd));
  }
  turn_lanes(pairs, turned);
  for (int i = 0; i < 4; ++i) _mm512_storeu_si512(sums[i] + column, turned[i]);
}

// Rows column + j + 4 l of what turn_pairs has turned, of 32 rows of sums, go to to[l].
TANDEM_BF16_INLINE void store_turned(const float (*sums)[block_columns], int64_t column, int64_t j,
                                     std::byte* const (&to)[4], int64_t count) {
  __m512i parts[4], lines[4];
  for (int i = 0; i < 4; ++i) parts[i] = _mm512_loadu_si512(sums[8 * i + j] + column);
  gather_lanes(parts, lines);
  for (int l = 0; l < 4; ++l)
    if (to[l]) store_run(lines[l], to[l], count);
}

}  // namespace

bool rounds_to_bf16() {
  static const bool supported = __builtin_cpu_supports("avx512bf16");
  return supported;
}

TANDEM_BF16 void store_bf16_rows(const float (*sums)[block_columns], const Target& to,
                                 const Interval& rows) {
  __m512 low = _mm512_setzero_ps(), high = low;
  if (to.bias) {
    low = _mm512_loadu_ps(to.bias);
    high = _mm512_loadu_ps(to.bias + 16);
  }
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    std::byte* const row = to.rows[static_cast<size_t>(i)];
    if (!row) continue;
    __m512 first = _mm512_loadu_ps(sums[i]), second = _mm512_loadu_ps(sums[i] + 16);
    if (to.bias) {
      first = _mm512_add_ps(first, low);
      second = _mm512_add_ps(second, high);
    }
    store_run(rounded(first, second), row + to.first * 2, to.cols);
  }
}

// First the sums are turned, then rows are stored.
TANDEM_BF16 void store_bf16_transposed(float (*sums)[block_columns], const Target& to,
                                       int64_t first, int quarter) {
  const int64_t begin = quarter % 2 * 2;
  if (quarter < 2) {
    for (int64_t part = begin * 8; part < std::min(begin * 8 + 16, to.cols); part += 8)
      turn_pairs(sums + part, first, to.bias ? to.bias + part : nullptr);
    return;
  }
  const auto rows = static_cast<int64_t>(to.rows.size());
  for (int64_t j = begin; j < begin + 2; ++j) {
    std::byte* out[4] = {};
    for (int64_t l = 0; l < 4; ++l)
      if (const int64_t i = first + j + 4 * l; i < rows && to.rows[static_cast<size_t>(i)])
        out[l] = to.rows[static_cast<size_t>(i)] + to.first * 2;
    store_turned(sums, first, j, out, to.cols);
  }
}

}  // namespace tandem::cpu
