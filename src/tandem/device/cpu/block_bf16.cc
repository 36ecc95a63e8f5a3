// The kernel with AVX-512 bf16 dot products: a dword of the panel times 16 or 32 columns of a
// strip.
#include <immintrin.h>

#include <cstring>

#include "tandem/device/cpu/blocks.h"

#define TANDEM_AVX512_BF16 __attribute__((target("avx512f,avx512bf16")))

namespace tandem::cpu {
namespace {

constexpr int group = 8;  // rows whose sums are in registers together

template <int vectors>
TANDEM_AVX512_BF16 void multiply_group(const BlockProduct& p, int first_row, float* c) {
  const std::byte* a = p.a.half[first_row / 16] + first_row % 16 * p.a.row_step;
  __m512 sums[group][vectors];
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < vectors; ++s)
      sums[r][s] =
          p.accumulate ? _mm512_loadu_ps(c + r * p.c_stride + s * 16) : _mm512_setzero_ps();
  const std::byte* b = p.b;
  for (int64_t line = 0; line < p.lines; ++line, a += p.a.line_step) {
    if (first_row == 0) p.meanwhile.run();
    for (int dword = 0; dword < 16; ++dword, b += strip_dword_bytes) {
      __m512i columns[vectors];
      for (int s = 0; s < vectors; ++s) columns[s] = _mm512_loadu_si512(b + s * line_bytes);
#pragma GCC unroll 8
      for (int r = 0; r < group; ++r) {
        int pair;
        std::memcpy(&pair, a + r * p.a.row_step + dword * 4, 4);
        const auto row = (__m512bh)_mm512_set1_epi32(pair);
        for (int s = 0; s < vectors; ++s)
          sums[r][s] = _mm512_dpbf16_ps(sums[r][s], row, (__m512bh)columns[s]);
      }
    }
  }
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < vectors; ++s) _mm512_storeu_ps(c + r * p.c_stride + s * 16, sums[r][s]);
}

}  // namespace

void avx512_bf16_block(const BlockProduct& p) {
  for (int row = 0; row < p.rows; row += group) {
    float* c = p.c + row * p.c_stride;
    p.columns > 16 ? multiply_group<2>(p, row, c) : multiply_group<1>(p, row, c);
  }
}

}  // namespace tandem::cpu
