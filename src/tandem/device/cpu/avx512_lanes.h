// What AVX-512 registers are turned, raised to powers and rounded with, inlined into functions that
// have them: as intrinsics, since such functions use instructions beside these that Highway lacks.
#pragma once

#if defined(__x86_64__)

// GCC 12 warns of its own header (PR105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define TANDEM_AVX512 __attribute__((target("avx512f,avx512bw")))
#define TANDEM_AVX512_INLINE __attribute__((target("avx512f"), always_inline)) inline
#define TANDEM_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512bf16")))

namespace tandem::cpu {

// The two halves of a transpose of dwords. First 4 x 4 of them are turned within each lane of 128
// bits: lane l of out[j] has column 4 l + j of the four lines.
TANDEM_AVX512_INLINE void turn_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
  const __m512i low01 = _mm512_unpacklo_epi32(in[0], in[1]);
  const __m512i high01 = _mm512_unpackhi_epi32(in[0], in[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(in[2], in[3]);
  const __m512i high23 = _mm512_unpackhi_epi32(in[2], in[3]);
  out[0] = _mm512_unpacklo_epi64(low01, low23);
  out[1] = _mm512_unpackhi_epi64(low01, low23);
  out[2] = _mm512_unpacklo_epi64(high01, high23);
  out[3] = _mm512_unpackhi_epi64(high01, high23);
}
// Then lanes are: out[l] has lane l of each.
TANDEM_AVX512_INLINE void gather_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
  const __m512i even01 = _mm512_shuffle_i32x4(in[0], in[1], 0x88);
  const __m512i odd01 = _mm512_shuffle_i32x4(in[0], in[1], 0xDD);
  const __m512i even23 = _mm512_shuffle_i32x4(in[2], in[3], 0x88);
  const __m512i odd23 = _mm512_shuffle_i32x4(in[2], in[3], 0xDD);
  out[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
  out[1] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
  out[2] = _mm512_shuffle_i32x4(even01, even23, 0xDD);
  out[3] = _mm512_shuffle_i32x4(odd01, odd23, 0xDD);
}

// Both: dword d of 16 lines in out[d].
TANDEM_AVX512_INLINE void turn(const __m512i (&in)[16], __m512i (&out)[16]) {
  __m512i turned[4][4];
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part)
    turn_lanes({in[part * 4], in[part * 4 + 1], in[part * 4 + 2], in[part * 4 + 3]}, turned[part]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    __m512i lines[4];
    gather_lanes({turned[0][j], turned[1][j], turned[2][j], turned[3][j]}, lines);
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) out[4 * l + j] = lines[l];
  }
}
// 16 rows that lie `step` bytes apart, one line of which is read after the other.
struct RowLines {
  const std::byte* quarter[4];  // every fourth row: few enough to stay in registers
  int64_t step;

  RowLines(const std::byte* first, int64_t apart)
      : quarter{first, first + 4 * apart, first + 8 * apart, first + 12 * apart}, step(apart) {}
};
// The same of a line of them; the next one lies `line_step` bytes behind.
TANDEM_AVX512_INLINE void turn(RowLines& rows, int64_t line_step, __m512i (&out)[16]) {
  __m512i lines[16];
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      lines[part * 4 + i] = _mm512_loadu_si512(rows.quarter[part] + i * rows.step);
    rows.quarter[part] += line_step;
  }
  turn(lines, out);
}
TANDEM_AVX512_INLINE void turn(const std::byte* from, int64_t step, __m512i (&out)[16]) {
  RowLines rows(from, step);
  turn(rows, 0, out);
}

// 2^x for x < 120 to 4e-6, exactly 0 below -126, exactly 1 for 0, NaN for NaN.
TANDEM_AVX512_INLINE __m512 exp2_lanes(__m512 x) {
  const __m512 rounder = _mm512_set1_ps(0x1.8p23f);
  const __m512 shifted = _mm512_add_ps(x, rounder);
  const __m512 r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, rounder));
  __m512 y = _mm512_fmadd_ps(_mm512_set1_ps(9.78291264e-3f), r, _mm512_set1_ps(5.59768836e-2f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.240207111f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.693113604f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
  const __m512i power = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  const __mmask16 there = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  return _mm512_castsi512_ps(_mm512_maskz_add_epi32(there, _mm512_castps_si512(y), power));
}

// Two neighbours in depth in each dword, each to the nearest bf16 (ties away from zero).
TANDEM_AVX512_INLINE __m512i bf16_pairs(__m512 even, __m512 odd) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(~0xFFFF);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
  constexpr int low_or_high_and_upper = 0xF8;
  return _mm512_ternarylogic_epi32(low, high, upper, low_or_high_and_upper);
}

// 16 neighbours, each to the nearest bf16 (ties away from zero).
TANDEM_AVX512_INLINE __m256i bf16_run(__m512 numbers) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i sum = _mm512_add_epi32(_mm512_castps_si512(numbers), half);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16));
}

// A dword, in every lane.
TANDEM_AVX512_INLINE __m512i in_every_lane(const std::byte* dword) {
  int bits;
  std::memcpy(&bits, dword, 4);
  return _mm512_set1_epi32(bits);
}

}  // namespace tandem::cpu

#endif
