// A step on AMX tiles.
#include "tandem/device/cpu/attention_step.h"
#include "tandem/device/cpu/avx512_lanes.h"

#define TANDEM_TILES __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl")))
#define TANDEM_TILES_INLINE TANDEM_TILES __attribute__((always_inline)) inline
#define TANDEM_TILES_INLINE_LAMBDA TANDEM_TILES __attribute__((always_inline))

namespace tandem::cpu {
namespace {

// What goes on beside products, spread evenly over them: weights, of two positions at a time, and
// bringing memory near.
class Beside {
 public:
  TANDEM_TILES_INLINE Beside(const AttentionStep& step, int64_t products)
      : weights_(step.weights), ahead_(step.ahead), products_(products) {
    if (products > 0) lines_each_ = (step.lines_ahead + products - 1) / products;
    left_ = weights_.scores ? pairs : 0;
    chores_ = left_;
  }
  // Beside one product.
  TANDEM_TILES_INLINE void some() {
    for (due_ += chores_; due_ >= products_; due_ -= products_) pair();
    if (lines_each_ > 0) ahead_->bring(lines_each_);
  }
  // Where there are no products.
  TANDEM_TILES_INLINE void rest() {
    while (left_ > 0) pair();
  }

 private:
  static constexpr int64_t pairs = kv_block_tokens / 2;

  TANDEM_TILES_INLINE void pair() {
    const int64_t number = pairs - left_--, position = 2 * number;
    const __m512 scale = _mm512_set1_ps(weights_.scale);
    for (int64_t lane = 0; lane < weights_.columns; lane += 16) {
      const auto weight = [&](int64_t i) TANDEM_TILES_INLINE_LAMBDA {
        const float* score = (*weights_.scores)[position + i] + lane;
        const __m512 most = _mm512_load_ps(weights_.sums.most + lane);
        return exp2_lanes(_mm512_fmsub_ps(_mm512_load_ps(score), scale, most));
      };
      __m512 even = weight(0), odd = weight(1);
      float* sum = weights_.sums.weight + lane;
      _mm512_store_ps(sum, _mm512_add_ps(_mm512_load_ps(sum), _mm512_add_ps(even, odd)));
      if (weights_.mask) {
        even = _mm512_mul_ps(even, _mm512_load_ps((*weights_.mask)[position] + lane));
        odd = _mm512_mul_ps(odd, _mm512_load_ps((*weights_.mask)[position + 1] + lane));
      }
      _mm512_store_si512(weights_.strip + number * strip_dword_bytes + lane * 4,
                         bf16_pairs(even, odd));
    }
  }

  const SoftmaxStep weights_;
  LinesAhead* const ahead_;
  const int64_t products_;
  int64_t lines_each_ = 0, chores_ = 0, due_ = 0, left_ = 0;
};

// Blocks of 32 x 32 (or 16) sums in tiles 0..3, one after the other. A block's sums are stored just
// before the next block needs their tiles: by then they are made. Tiles 4, 5: panel, 6, 7: strip.
template <bool wide>
class Blocks {
 public:
  TANDEM_TILES_INLINE explicit Blocks(Beside& beside) : beside_(beside) {}

  // `rows`: how many of the panel's 32 are there.
  TANDEM_TILES_INLINE void multiply(const Panel& panel, int64_t rows, const std::byte* strip,
                                    int64_t lines, RowLine* sums, bool add) {
    const std::byte *a0 = panel.half[0], *a1 = panel.half[1];
    const auto step = static_cast<size_t>(panel.row_step);
    const bool two = rows > 16;
    for (int64_t line = 0; line < lines; ++line) {
      const bool first = line == 0;
      _tile_loadd(6, strip, strip_dword_bytes);
      _tile_loadd(4, a0, step);
      if (first) begin<0>(sums, add);
      _tile_dpbf16ps(0, 4, 6);
      beside_.some();
      if constexpr (wide) {
        _tile_loadd(7, strip + line_bytes, strip_dword_bytes);
        if (first) begin<1>(sums, add);
        _tile_dpbf16ps(1, 4, 7);
        beside_.some();
      }
      if (two) {
        _tile_loadd(5, a1, step);
        if (first) begin<2>(sums, add);
        _tile_dpbf16ps(2, 5, 6);
        beside_.some();
        if constexpr (wide) {
          if (first) begin<3>(sums, add);
          _tile_dpbf16ps(3, 5, 7);
          beside_.some();
        }
      } else if (first) {
        store<2>();
        if constexpr (wide) store<3>();
      }
      a0 += panel.line_step;
      a1 += panel.line_step;
      strip += strip_line_bytes;
    }
    sums_ = sums;
    two_ = two;
  }
  TANDEM_TILES_INLINE void end() {
    store<0>();
    if constexpr (wide) store<1>();
    store<2>();
    if constexpr (wide) store<3>();
  }

 private:
  // The intrinsics take numbers alone: a template's parameter is none to them.
  template <int tile>
  TANDEM_TILES_INLINE void store() const {
    if (!sums_ || (tile >= 2 && !two_)) return;
    constexpr size_t step = sizeof(RowLine);
    if constexpr (tile == 0) _tile_stored(0, sums_[0], step);
    if constexpr (tile == 1) _tile_stored(1, sums_[0] + 16, step);
    if constexpr (tile == 2) _tile_stored(2, sums_[16], step);
    if constexpr (tile == 3) _tile_stored(3, sums_[16] + 16, step);
  }
  template <int tile>
  TANDEM_TILES_INLINE void begin(const RowLine* sums, bool add) const {
    store<tile>();
    constexpr size_t step = sizeof(RowLine);
    if constexpr (tile == 0) {
      if (add)
        _tile_loadd(0, sums[0], step);
      else
        _tile_zero(0);
    }
    if constexpr (tile == 1) {
      if (add)
        _tile_loadd(1, sums[0] + 16, step);
      else
        _tile_zero(1);
    }
    if constexpr (tile == 2) {
      if (add)
        _tile_loadd(2, sums[16], step);
      else
        _tile_zero(2);
    }
    if constexpr (tile == 3) {
      if (add)
        _tile_loadd(3, sums[16] + 16, step);
      else
        _tile_zero(3);
    }
  }

  Beside& beside_;
  RowLine* sums_ = nullptr;  // of the block before,
  bool two_ = false;         // which had more than 16 rows
};

template <bool wide>
TANDEM_TILES_INLINE void multiply_scores(const AttentionStep::Scores& s, Beside& beside) {
  Blocks<wide> blocks(beside);
  for (int64_t first = 0; first < s.keys->count; first += block_rows)
    blocks.multiply(s.keys->half[first / block_rows], s.keys->count - first, s.queries,
                    s.keys->lines, &(*s.to)[first], false);
  blocks.end();
}

template <bool wide>
TANDEM_TILES_INLINE void multiply_values(const AttentionStep::Values& v, Beside& beside) {
  Blocks<wide> blocks(beside);
  for (int64_t first = 0; first < v.features->count; first += block_rows)
    blocks.multiply(packed_panel(v.features->at(first / block_rows)), v.features->count - first,
                    v.weights, v.features->lines, v.sums + first, v.begun);
  blocks.end();
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

TANDEM_TILES void run_amx(const AttentionStep& step) {
  Beside beside(step, products_of(step));
  if (const auto& s = step.scores; s.keys)
    s.columns > 16 ? multiply_scores<true>(s, beside) : multiply_scores<false>(s, beside);
  if (const auto& v = step.values; v.features)
    v.columns > 16 ? multiply_values<true>(v, beside) : multiply_values<false>(v, beside);
  beside.rest();
}

}  // namespace tandem::cpu
