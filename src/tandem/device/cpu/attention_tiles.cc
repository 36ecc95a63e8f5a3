// The step of attention on AMX tiles.
// GCC 12 warns of its own header (PR105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "tandem/device/cpu/attention_step.h"

#define TANDEM_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")))
#define TANDEM_TILES_INLINE TANDEM_TILES __attribute__((always_inline)) inline

namespace tandem::cpu {
namespace {

// exp2_lanes of attention_softmax.cc, to 4e-6.
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

// Makes the weights of two positions and 16 lanes at a time.
class Weights {
 public:
  TANDEM_TILES_INLINE Weights(const SoftmaxStep& step, int64_t products) {
    if (!step.scores) return;
    scores_ = (*step.scores)[0];
    mask_ = step.mask ? (*step.mask)[0] : nullptr;
    most_ = step.sums.most;
    weight_ = step.sums.weight;
    strip_ = step.strip;
    scale_ = step.scale;
    halves_ = step.columns / 16;
    left_ = halves_ * kv_block_tokens / 2;
    each_ = products > 0 ? (left_ + products - 1) / products : left_;
  }
  // Beside one product.
  TANDEM_TILES_INLINE void some() {
    for (int64_t i = each_; i > 0 && left_ > 0; --i) pair();
  }
  TANDEM_TILES_INLINE void rest() {
    while (left_ > 0) pair();
  }

 private:
  TANDEM_TILES_INLINE void pair() {
    const __m512 scale = _mm512_set1_ps(scale_), most = _mm512_load_ps(most_ + lane_);
    const float* at = scores_ + lane_;
    __m512 even = exp2_lanes(_mm512_fmsub_ps(_mm512_load_ps(at), scale, most));
    __m512 odd = exp2_lanes(_mm512_fmsub_ps(_mm512_load_ps(at + row_lanes), scale, most));
    const __m512 sum = _mm512_add_ps(_mm512_load_ps(weight_ + lane_), _mm512_add_ps(even, odd));
    _mm512_store_ps(weight_ + lane_, sum);
    if (mask_) {
      even = _mm512_mul_ps(even, _mm512_load_ps(mask_ + (at - scores_)));
      odd = _mm512_mul_ps(odd, _mm512_load_ps(mask_ + (at - scores_) + row_lanes));
    }
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(~0xFFFF);
    const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(even), half), 16);
    const __m512i high = _mm512_add_epi32(_mm512_castps_si512(odd), half);
    constexpr int low_or_high_and_upper = 0xF8;
    _mm512_store_si512(strip_ + lane_ * 4,
                       _mm512_ternarylogic_epi32(low, high, upper, low_or_high_and_upper));
    --left_;
    lane_ += 16;
    if (lane_ < halves_ * 16) return;
    lane_ = 0;
    scores_ += 2 * row_lanes;
    if (mask_) mask_ += 2 * row_lanes;
    strip_ += strip_dword_bytes;
  }

  const float *scores_ = nullptr, *mask_ = nullptr, *most_ = nullptr;
  float *weight_ = nullptr, scale_ = 1;
  std::byte* strip_ = nullptr;
  int64_t lane_ = 0, halves_ = 0, left_ = 0, each_ = 0;
};

// 32 positions times 16 or 32 rows. Tiles: 0..3 sums, 4, 5 positions, 6, 7 rows.
template <bool wide>
TANDEM_TILES_INLINE void multiply_scores(const AttentionStep::Scores& s, int64_t half,
                                         Weights& weights) {
  const bool two = s.keys->count - half * block_rows > 16;
  const Panel& a = s.keys->half[half];
  const std::byte *a0 = a.half[0], *a1 = a.half[1], *b = s.queries;
  const auto a_step = static_cast<size_t>(a.row_step);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t line = 0; line < s.keys->lines; ++line) {
    _tile_loadd(6, b, strip_dword_bytes);
    _tile_loadd(4, a0, a_step);
    _tile_dpbf16ps(0, 4, 6);
    weights.some();
    if constexpr (wide) {
      _tile_loadd(7, b + line_bytes, strip_dword_bytes);
      _tile_dpbf16ps(1, 4, 7);
      weights.some();
    }
    if (two) {
      _tile_loadd(5, a1, a_step);
      _tile_dpbf16ps(2, 5, 6);
      weights.some();
      if constexpr (wide) {
        _tile_dpbf16ps(3, 5, 7);
        weights.some();
      }
    }
    a0 += a.line_step;
    a1 += a.line_step;
    b += strip_line_bytes;
  }
  float* const to = (*s.to)[half * block_rows];
  constexpr size_t step = sizeof(RowLine);
  _tile_stored(0, to, step);
  if constexpr (wide) _tile_stored(1, to + 16, step);
  if (two) {
    _tile_stored(2, to + 16 * row_lanes, step);
    if constexpr (wide) _tile_stored(3, to + 16 * row_lanes + 16, step);
  }
}

// All features times 16 or 32 rows. Tiles: 0..3 weights, 4, 5 sums, 6, 7 features.
template <bool wide>
TANDEM_TILES_INLINE void multiply_values(const AttentionStep::Values& v, Weights& weights) {
  const bool two = v.features->lines > 1;
  const std::byte* line = v.weights;
  _tile_loadd(0, line, strip_dword_bytes);
  if constexpr (wide) _tile_loadd(1, line + line_bytes, strip_dword_bytes);
  if (two) {
    line += strip_line_bytes;
    _tile_loadd(2, line, strip_dword_bytes);
    if constexpr (wide) _tile_loadd(3, line + line_bytes, strip_dword_bytes);
  }
  constexpr size_t step = sizeof(RowLine);
  for (int64_t first = 0; first < v.features->count; first += 16) {
    const std::byte* a = v.features->at(first / block_rows) + first % block_rows * line_bytes;
    float* const sums = v.sums[first];
    _tile_loadd(6, a, line_bytes);
    if (v.begun) {
      _tile_loadd(4, sums, step);
      if constexpr (wide) _tile_loadd(5, sums + 16, step);
    } else {
      _tile_zero(4);
      if constexpr (wide) _tile_zero(5);
    }
    _tile_dpbf16ps(4, 6, 0);
    weights.some();
    if constexpr (wide) {
      _tile_dpbf16ps(5, 6, 1);
      weights.some();
    }
    if (two) {
      _tile_loadd(7, a + block_rows * line_bytes, line_bytes);
      _tile_dpbf16ps(4, 7, 2);
      weights.some();
      if constexpr (wide) {
        _tile_dpbf16ps(5, 7, 3);
        weights.some();
      }
    }
    _tile_stored(4, sums, step);
    if constexpr (wide) _tile_stored(5, sums + 16, step);
  }
}

int64_t products_of(const AttentionStep& step) {
  int64_t products = 0;
  if (const auto& s = step.scores; s.keys)
    products += (s.keys->count + 15) / 16 * s.keys->lines * (s.columns / 16);
  if (const auto& v = step.values; v.features)
    products += (v.features->count + 15) / 16 * v.features->lines * (v.columns / 16);
  return products;
}

}  // namespace

TANDEM_TILES void tile_step(const AttentionStep& step) {
  Weights weights(step.weights, products_of(step));
  if (const auto& s = step.scores; s.keys)
    for (int64_t half = 0; half * block_rows < s.keys->count; ++half)
      s.columns > 16 ? multiply_scores<true>(s, half, weights)
                     : multiply_scores<false>(s, half, weights);
  if (const auto& v = step.values; v.features)
    v.columns > 16 ? multiply_values<true>(v, weights) : multiply_values<false>(v, weights);
  weights.rest();
}

}  // namespace tandem::cpu
