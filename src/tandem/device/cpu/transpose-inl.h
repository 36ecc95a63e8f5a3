// The few steps on whole lines that want vector instructions, for pack.cc. Included once for each
// instruction set.
#if defined(TANDEM_TRANSPOSE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_TRANSPOSE_INL_H
#undef TANDEM_TRANSPOSE_INL_H
#else
#define TANDEM_TRANSPOSE_INL_H
#endif

#include <cstring>

#include "hwy/highway.h"
#include "tandem/device/cpu/bf16.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET <= HWY_AVX3

HWY_INLINE void copy_line(const std::byte* from, std::byte* to) {
  _mm512_storeu_si512(to, _mm512_loadu_si512(from));
}

// to[j][i] = in[i][j], dwords, 16 x 16; the rows of `to` lie to_step bytes apart.
HWY_INLINE void transpose(const std::byte* const (&in)[16], std::byte* to, int64_t to_step) {
  // First 4 x 4 blocks of dwords are turned within lanes of 128 bits, then the lanes are.
  __m512i turned[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512i r0 = _mm512_loadu_si512(in[i]), r1 = _mm512_loadu_si512(in[i + 1]);
    const __m512i r2 = _mm512_loadu_si512(in[i + 2]), r3 = _mm512_loadu_si512(in[i + 3]);
    const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
    const __m512i low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
    turned[i] = _mm512_unpacklo_epi64(low01, low23);
    turned[i + 1] = _mm512_unpackhi_epi64(low01, low23);
    turned[i + 2] = _mm512_unpacklo_epi64(high01, high23);
    turned[i + 3] = _mm512_unpackhi_epi64(high01, high23);
  }
  for (int j = 0; j < 4; ++j) {  // lane l of turned[4 b + j]: column 4 l + j of rows 4 b .. 4 b + 3
    const __m512i even01 = _mm512_shuffle_i32x4(turned[j], turned[4 + j], 0x88);
    const __m512i odd01 = _mm512_shuffle_i32x4(turned[j], turned[4 + j], 0xDD);
    const __m512i even23 = _mm512_shuffle_i32x4(turned[8 + j], turned[12 + j], 0x88);
    const __m512i odd23 = _mm512_shuffle_i32x4(turned[8 + j], turned[12 + j], 0xDD);
    _mm512_storeu_si512(to + j * to_step, _mm512_shuffle_i32x4(even01, even23, 0x88));
    _mm512_storeu_si512(to + (8 + j) * to_step, _mm512_shuffle_i32x4(even01, even23, 0xDD));
    _mm512_storeu_si512(to + (4 + j) * to_step, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
    _mm512_storeu_si512(to + (12 + j) * to_step, _mm512_shuffle_i32x4(odd01, odd23, 0xDD));
  }
}

// 16 bf16 of two rows, taken in turn.
HWY_INLINE void interleave(const std::byte* even, const std::byte* odd, std::byte* to) {
  const auto* e = reinterpret_cast<const __m256i*>(even);
  const auto* o = reinterpret_cast<const __m256i*>(odd);
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(e));
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(o)), 16);
  _mm512_storeu_si512(to, _mm512_or_si512(low, high));
}

// The nearest bf16 in the upper half of each dword; same rounding as to_bf16, NaN included.
HWY_INLINE __m512i rounded(__m512 numbers) {
  const __m512i bits = _mm512_castps_si512(numbers);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(last, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x400000));
}

HWY_INLINE void write_16(const float* from, std::byte* to, DType dtype) {
  const __m512 numbers = _mm512_loadu_ps(from);
  if (dtype == DType::f32) return _mm512_storeu_ps(to, numbers);
  const __m512i upper = _mm512_srli_epi32(rounded(numbers), 16);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(upper));
}

// 16 pairs of bf16 out of two rows, each with a number added.
HWY_INLINE void round_pairs(const float* even, float to_even, const float* odd, float to_odd,
                            std::byte* to) {
  const __m512i low = rounded(_mm512_add_ps(_mm512_loadu_ps(even), _mm512_set1_ps(to_even)));
  const __m512i high = rounded(_mm512_add_ps(_mm512_loadu_ps(odd), _mm512_set1_ps(to_odd)));
  _mm512_storeu_si512(to, _mm512_mask_mov_epi16(_mm512_srli_epi32(low, 16), 0xAAAAAAAA, high));
}

// The first `count` of 32 bf16.
HWY_INLINE void store_bf16(const std::byte* from, std::byte* to, int64_t count) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
  _mm512_mask_storeu_epi16(to, mask, _mm512_loadu_si512(from));
}

#else

HWY_INLINE void copy_line(const std::byte* from, std::byte* to) { std::memcpy(to, from, 64); }

HWY_INLINE void transpose(const std::byte* const (&in)[16], std::byte* to, int64_t to_step) {
  for (int j = 0; j < 16; ++j)
    for (int i = 0; i < 16; ++i) std::memcpy(to + j * to_step + i * 4, in[i] + j * 4, 4);
}

HWY_INLINE void interleave(const std::byte* even, const std::byte* odd, std::byte* to) {
  for (int i = 0; i < 16; ++i) {
    std::memcpy(to + i * 4, even + i * 2, 2);
    std::memcpy(to + i * 4 + 2, odd + i * 2, 2);
  }
}

HWY_INLINE void write_16(const float* from, std::byte* to, DType dtype) {
  write_floats(from, to, dtype, 16);
}

HWY_INLINE void round_pairs(const float* even, float to_even, const float* odd, float to_odd,
                            std::byte* to) {
  for (int i = 0; i < 16; ++i) {
    const bfloat16 pair[2] = {to_bf16(even[i] + to_even), to_bf16(odd[i] + to_odd)};
    std::memcpy(to + i * 4, pair, 4);
  }
}

HWY_INLINE void store_bf16(const std::byte* from, std::byte* to, int64_t count) {
  std::memcpy(to, from, static_cast<size_t>(count) * 2);
}

#endif

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
