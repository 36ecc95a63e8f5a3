#include "tandem/device/cpu/attention_gradient.h"

#include "tandem/device/cpu/avx512_lanes.h"

namespace tandem::cpu {
namespace {

struct Gradients {
  __m512 p, ds;
};

TANDEM_AVX512_INLINE Gradients gradients(const GradientStep& s, int64_t position, int64_t lane) {
  const __m512 score = _mm512_load_ps(s.scores[position] + lane);
  const __m512 shift = _mm512_load_ps(s.logsumexp + lane);
  __m512 p = exp2_lanes(_mm512_fmsub_ps(score, _mm512_set1_ps(s.scale), shift));
  __m512 dp = _mm512_load_ps(s.dweights[position] + lane);
  const __m512 delta = _mm512_load_ps(s.delta + lane), seen = _mm512_load_ps(s.seen + lane);
  const __mmask16 sees =
      _mm512_cmp_ps_mask(_mm512_set1_ps(static_cast<float>(position)), seen, _CMP_LT_OQ);
  const __m512 scaled = _mm512_mul_ps(p, _mm512_set1_ps(s.dscore_scale));
  if (s.mask) {
    const __m512 mask = _mm512_load_ps((*s.mask)[position] + lane);
    dp = _mm512_mul_ps(dp, mask);
    p = _mm512_mul_ps(p, mask);
  }
  // Last, since lanes that are no row's hold anything, and what is summed over rows takes all
  // lanes.
  return {_mm512_maskz_mov_ps(sees, p),
          _mm512_maskz_mul_ps(sees, scaled, _mm512_sub_ps(dp, delta))};
}

}  // namespace

TANDEM_AVX512 void gradient_step(const GradientStep& s) {
  for (int64_t lane = 0; lane < row_lanes; lane += 16)
    for (int64_t j = 0; j < kv_block_tokens; j += 2) {
      Gradients of[2] = {{_mm512_setzero_ps(), _mm512_setzero_ps()},
                         {_mm512_setzero_ps(), _mm512_setzero_ps()}};
      for (int64_t i = 0; i < 2; ++i) {
        if (j + i < s.positions) of[i] = gradients(s, j + i, lane);
        const int64_t at = (j + i) * line_bytes + lane * 2;
        _mm256_store_si256(reinterpret_cast<__m256i*>(s.weights + at), bf16_run(of[i].p));
        _mm256_store_si256(reinterpret_cast<__m256i*>(s.dscores + at), bf16_run(of[i].ds));
      }
      _mm512_store_si512(s.dscores_strip + j / 2 * strip_dword_bytes + lane * 4,
                         bf16_pairs(of[0].ds, of[1].ds));
    }
}

}  // namespace tandem::cpu
