// Vector arithmetic for processors with AMX tiles, which all have AVX-512: inlined into functions
// that use both, so as intrinsics.
#pragma once

// GCC 12 warns of its own header (PR105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#define TANDEM_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")))
#define TANDEM_TILES_INLINE TANDEM_TILES __attribute__((always_inline)) inline
#define TANDEM_TILES_INLINE_LAMBDA TANDEM_TILES __attribute__((always_inline))

namespace tandem::cpu {

// 2^x for x < 120 to 4e-6, exactly 0 below -126, exactly 1 for 0, NaN for NaN.
TANDEM_TILES_INLINE __m512 exp2_lanes(__m512 x) {
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
TANDEM_TILES_INLINE __m512i bf16_pairs(__m512 even, __m512 odd) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(~0xFFFF);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
  constexpr int low_or_high_and_upper = 0xF8;
  return _mm512_ternarylogic_epi32(low, high, upper, low_or_high_and_upper);
}

// 16 neighbours, each to the nearest bf16 (ties away from zero).
TANDEM_TILES_INLINE __m256i bf16_run(__m512 numbers) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i sum = _mm512_add_epi32(_mm512_castps_si512(numbers), half);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16));
}

}  // namespace tandem::cpu
