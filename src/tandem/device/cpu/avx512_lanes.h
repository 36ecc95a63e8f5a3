// Transposes of dwords in AVX-512 registers, inlined into functions that have those.
#pragma once

#if defined(__x86_64__)

// GCC 12 warns of its own header (PR105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstddef>

#define TANDEM_AVX512_INLINE __attribute__((target("avx512f"), always_inline)) inline

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
TANDEM_AVX512_INLINE void turn(const std::byte* const (&in)[16], __m512i (&out)[16]) {
  __m512i turned[4][4];
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part) {
    __m512i lines[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) lines[i] = _mm512_loadu_si512(in[part * 4 + i]);
    turn_lanes(lines, turned[part]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    __m512i lines[4];
    gather_lanes({turned[0][j], turned[1][j], turned[2][j], turned[3][j]}, lines);
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) out[4 * l + j] = lines[l];
  }
}

}  // namespace tandem::cpu

#endif
