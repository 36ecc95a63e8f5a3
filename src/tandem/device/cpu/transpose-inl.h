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
#include "tandem/device/cpu/blocks.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET <= HWY_AVX3

HWY_INLINE void copy_line(const std::byte* from, std::byte* to) {
  _mm512_storeu_si512(to, _mm512_loadu_si512(from));
}

// The two halves of a transpose of dwords. First 4 x 4 of them are turned within each lane of 128
// bits: lane l of out[j] has column 4 l + j of the four lines.
HWY_INLINE void turn_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
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
HWY_INLINE void gather_lanes(const __m512i (&in)[4], __m512i (&out)[4]) {
  const __m512i even01 = _mm512_shuffle_i32x4(in[0], in[1], 0x88);
  const __m512i odd01 = _mm512_shuffle_i32x4(in[0], in[1], 0xDD);
  const __m512i even23 = _mm512_shuffle_i32x4(in[2], in[3], 0x88);
  const __m512i odd23 = _mm512_shuffle_i32x4(in[2], in[3], 0xDD);
  out[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
  out[1] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
  out[2] = _mm512_shuffle_i32x4(even01, even23, 0xDD);
  out[3] = _mm512_shuffle_i32x4(odd01, odd23, 0xDD);
}

// to[j][i] = in[i][j], dwords, 16 x 16; the rows of `to` lie to_step bytes apart.
HWY_INLINE void transpose(const std::byte* const (&in)[16], std::byte* to, int64_t to_step) {
  __m512i turned[4][4];
  for (int part = 0; part < 4; ++part) {
    __m512i lines[4];
    for (int i = 0; i < 4; ++i) lines[i] = _mm512_loadu_si512(in[part * 4 + i]);
    turn_lanes(lines, turned[part]);
  }
  for (int j = 0; j < 4; ++j) {
    __m512i lines[4];
    gather_lanes({turned[0][j], turned[1][j], turned[2][j], turned[3][j]}, lines);
    for (int l = 0; l < 4; ++l) _mm512_storeu_si512(to + (4 * l + j) * to_step, lines[l]);
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

// The first `count` of 32 bf16.
HWY_INLINE void store_bf16(__m512i numbers, std::byte* to, int64_t count) {
  if (count >= 32) return _mm512_storeu_si512(to, numbers);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << count) - 1);
  _mm512_mask_storeu_epi16(to, mask, numbers);
}

// 16 columns of 8 rows of sums, each row with a number of `bias` added, become pairs of bf16:
// turned within lanes, in the place of the first four rows.
HWY_INLINE void turn_pairs(float (*sums)[block_columns], int64_t column, const float* bias) {
  __m512i pairs[4], turned[4];
  for (int i = 0; i < 4; ++i) {
    __m512 even = _mm512_loadu_ps(sums[2 * i] + column);
    __m512 odd = _mm512_loadu_ps(sums[2 * i + 1] + column);
    if (bias) {
      even = _mm512_add_ps(even, _mm512_set1_ps(bias[2 * i]));
      odd = _mm512_add_ps(odd, _mm512_set1_ps(bias[2 * i + 1]));
    }
    pairs[i] =
        _mm512_mask_mov_epi16(_mm512_srli_epi32(rounded(even), 16), 0xAAAAAAAA, rounded(odd));
  }
  turn_lanes(pairs, turned);
  for (int i = 0; i < 4; ++i) _mm512_storeu_si512(sums[i] + column, turned[i]);
}
// Rows column + j + 4 l of what turn_pairs has turned, of 32 rows of sums, go to to[l].
HWY_INLINE void store_turned(const float (*sums)[block_columns], int64_t column, int64_t j,
                             std::byte* const (&to)[4], int64_t count) {
  __m512i parts[4], lines[4];
  for (int i = 0; i < 4; ++i) parts[i] = _mm512_loadu_si512(sums[8 * i + j] + column);
  gather_lanes(parts, lines);
  for (int l = 0; l < 4; ++l)
    if (to[l]) store_bf16(lines[l], to[l], count);
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

// As above, but a pair stays where its even number was.
HWY_INLINE void turn_pairs(float (*sums)[block_columns], int64_t column, const float* bias) {
  for (int i = 0; i < 8; i += 2)
    for (int64_t k = column; k < column + 16; ++k) {
      const bfloat16 pair[2] = {to_bf16(bias ? sums[i][k] + bias[i] : sums[i][k]),
                                to_bf16(bias ? sums[i + 1][k] + bias[i + 1] : sums[i + 1][k])};
      std::memcpy(&sums[i][k], pair, 4);
    }
}
HWY_INLINE void store_turned(const float (*sums)[block_columns], int64_t column, int64_t j,
                             std::byte* const (&to)[4], int64_t count) {
  for (int64_t l = 0; l < 4; ++l)
    for (int64_t k = 0; to[l] && k < count; ++k)
      std::memcpy(
          to[l] + k * 2,
          reinterpret_cast<const std::byte*>(&sums[k / 2 * 2][column + j + 4 * l]) + k % 2 * 2, 2);
}

#endif

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
