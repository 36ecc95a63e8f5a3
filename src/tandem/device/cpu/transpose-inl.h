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
#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/blocks.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET <= HWY_AVX3

HWY_INLINE void copy_line(const std::byte* from, std::byte* to) {
  _mm512_storeu_si512(to, _mm512_loadu_si512(from));
}

// to[j][i] = in[i][j], dwords, 16 x 16; the rows of `to` lie to_step bytes apart.
HWY_INLINE void transpose(const std::byte* const (&in)[16], std::byte* to, int64_t to_step) {
  __m512i turned[16];
  __m512i lines[16];
  for (int i = 0; i < 16; ++i) lines[i] = _mm512_loadu_si512(in[i]);
  turn(lines, turned);
  for (int j = 0; j < 16; ++j) _mm512_storeu_si512(to + j * to_step, turned[j]);
}

// 32 bf16 of two rows, taken in turn.
HWY_INLINE void interleave(const std::byte* even, const std::byte* odd, std::byte* to) {
  alignas(64) static constexpr uint16_t in_turn[64] = {
      0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42,
      11, 43, 12, 44, 13, 45, 14, 46, 15, 47, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53,
      22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63};
  const __m512i e = _mm512_loadu_si512(even), o = _mm512_loadu_si512(odd);
  for (int half = 0; half < 2; ++half)
    _mm512_storeu_si512(to + half * line_bytes,
                        _mm512_permutex2var_epi16(e, _mm512_load_si512(in_turn + half * 32), o));
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

#else

HWY_INLINE void copy_line(const std::byte* from, std::byte* to) { std::memcpy(to, from, 64); }

HWY_INLINE void transpose(const std::byte* const (&in)[16], std::byte* to, int64_t to_step) {
  for (int j = 0; j < 16; ++j)
    for (int i = 0; i < 16; ++i) std::memcpy(to + j * to_step + i * 4, in[i] + j * 4, 4);
}

HWY_INLINE void interleave(const std::byte* even, const std::byte* odd, std::byte* to) {
  for (int i = 0; i < 32; ++i) {
    std::memcpy(to + i * 4, even + i * 2, 2);
    std::memcpy(to + i * 4 + 2, odd + i * 2, 2);
  }
}

HWY_INLINE void write_16(const float* from, std::byte* to, DType dtype) {
  write_floats(from, to, dtype, 16);
}

#endif

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
