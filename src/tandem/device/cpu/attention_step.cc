#include "tandem/device/cpu/attention_step.h"
#include "tandem/device/cpu/tile_lanes.h"

namespace tandem::cpu {
namespace {

// What goes on beside products: weights of two positions and 16 lanes at a time, memory.
class Beside {
 public:
  TANDEM_TILES_INLINE Beside(const AttentionStep& all, int64_t products) {
    if (all.ahead && products > 0) {
      ahead_ = all.ahead;
      lines_each_ = (all.lines_ahead + products - 1) / products;
    }
    const SoftmaxStep& step = all.weights;
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
    if (ahead_) ahead_->bring(lines_each_);
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
    _mm512_store_si512(strip_ + lane_ * 4, bf16_pairs(even, odd));
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
  int64_t lane_ = 0, halves_ = 0, left_ = 0, each_ = 0, lines_each_ = 0;
  LinesAhead* ahead_ = nullptr;
};

// Blocks of 4 x 256 sums in tiles 0..3, one after the other: 32 rows by 32 columns, or 64 by 16
// where columns are few. A block's sums are stored just before the next block needs their tiles: by
// then they are made. Tiles 4, 5: rows, 6, 7: columns.
template <bool wide>
class Blocks {
 public:
  static constexpr int64_t rows_at_once = wide ? 32 : 64;

  TANDEM_TILES_INLINE explicit Blocks(Beside& beside) : beside_(beside) {}

  // Rows `first` and those behind it, of `count` in all. `panel(i)`: that of rows 32 i and on.
  template <class PanelOf>
  TANDEM_TILES_INLINE void multiply(const PanelOf& panel, int64_t first, int64_t count,
                                    const std::byte* strip, int64_t lines, RowLine* sums,
                                    bool add) {
    const Panel upper = panel(first / block_rows);
    Panel lower = upper;
    if (!wide && first + block_rows < count) lower = panel(first / block_rows + 1);
    const std::byte* row[4] = {upper.half[0], upper.half[1], lower.half[0], lower.half[1]};
    const auto step = static_cast<size_t>(upper.row_step);
    const auto lower_step = static_cast<size_t>(lower.row_step);
    const int64_t tiles = std::min<int64_t>(rows_at_once, count - first + 15) / 16;
    for (int64_t line = 0; line < lines; ++line, strip += strip_line_bytes) {
      const bool start = line == 0;
      const int64_t at = line * upper.line_step, lower_at = line * lower.line_step;
      _tile_loadd(6, strip, strip_dword_bytes);
      _tile_loadd(4, row[0] + at, step);
      if (start) begin<0>(sums, add);
      _tile_dpbf16ps(0, 4, 6);
      beside_.some();
      if constexpr (wide) {
        _tile_loadd(7, strip + line_bytes, strip_dword_bytes);
        if (start) begin<1>(sums, add);
        _tile_dpbf16ps(1, 4, 7);
        beside_.some();
        if (tiles < 2) continue;
        _tile_loadd(5, row[1] + at, step);
        if (start) begin<2>(sums, add);
        _tile_dpbf16ps(2, 5, 6);
        beside_.some();
        if (start) begin<3>(sums, add);
        _tile_dpbf16ps(3, 5, 7);
        beside_.some();
      } else {
        if (tiles < 2) continue;
        _tile_loadd(5, row[1] + at, step);
        if (start) begin<1>(sums, add);
        _tile_dpbf16ps(1, 5, 6);
        beside_.some();
        if (tiles < 3) continue;
        _tile_loadd(4, row[2] + lower_at, lower_step);
        if (start) begin<2>(sums, add);
        _tile_dpbf16ps(2, 4, 6);
        beside_.some();
        if (tiles < 4) continue;
        _tile_loadd(5, row[3] + lower_at, lower_step);
        if (start) begin<3>(sums, add);
        _tile_dpbf16ps(3, 5, 6);
        beside_.some();
      }
    }
    // What the block before had more than this one.
    const int64_t used = wide ? 2 * tiles : tiles;
    if (used <= 1) store<1>();
    if (used <= 2) store<2>();
    if (used <= 3) store<3>();
    sums_ = sums;
    used_ = used;
  }
  TANDEM_TILES_INLINE void end() {
    store<0>();
    store<1>();
    store<2>();
    store<3>();
  }

 private:
  static constexpr size_t sums_step = sizeof(RowLine);
  template <int tile>
  static TANDEM_TILES_INLINE float* at(RowLine* sums) {
    return wide ? sums[tile / 2 * 16] + tile % 2 * 16 : sums[tile * 16];
  }
  // The intrinsics take numbers alone: a template's parameter is none to them.
  template <int tile>
  TANDEM_TILES_INLINE void store() const {
    if (!sums_ || tile >= used_) return;
    if constexpr (tile == 0) _tile_stored(0, at<0>(sums_), sums_step);
    if constexpr (tile == 1) _tile_stored(1, at<1>(sums_), sums_step);
    if constexpr (tile == 2) _tile_stored(2, at<2>(sums_), sums_step);
    if constexpr (tile == 3) _tile_stored(3, at<3>(sums_), sums_step);
  }
  template <int tile>
  static TANDEM_TILES_INLINE void load(RowLine* sums) {
    if constexpr (tile == 0) _tile_loadd(0, at<0>(sums), sums_step);
    if constexpr (tile == 1) _tile_loadd(1, at<1>(sums), sums_step);
    if constexpr (tile == 2) _tile_loadd(2, at<2>(sums), sums_step);
    if constexpr (tile == 3) _tile_loadd(3, at<3>(sums), sums_step);
  }
  template <int tile>
  static TANDEM_TILES_INLINE void zero() {
    if constexpr (tile == 0) _tile_zero(0);
    if constexpr (tile == 1) _tile_zero(1);
    if constexpr (tile == 2) _tile_zero(2);
    if constexpr (tile == 3) _tile_zero(3);
  }
  template <int tile>
  TANDEM_TILES_INLINE void begin(RowLine* sums, bool add) const {
    store<tile>();
    add ? load<tile>(sums) : zero<tile>();
  }

  Beside& beside_;
  RowLine* sums_ = nullptr;  // of the block before,
  int64_t used_ = 0;         // and how many tiles it used
};

template <bool wide>
TANDEM_TILES_INLINE void multiply_scores(const AttentionStep::Scores& s, Beside& beside) {
  Blocks<wide> blocks(beside);
  const auto panel = [&](int64_t i) { return s.keys->half[i]; };
  for (int64_t first = 0; first < s.keys->count; first += blocks.rows_at_once)
    blocks.multiply(panel, first, s.keys->count, s.queries, s.keys->lines, *s.to + first, false);
  blocks.end();
}

template <bool wide>
TANDEM_TILES_INLINE void multiply_values(const AttentionStep::Values& v, Beside& beside) {
  Blocks<wide> blocks(beside);
  const auto panel = [&](int64_t i) { return packed_panel(v.features->at(i)); };
  for (int64_t first = 0; first < v.features->count; first += blocks.rows_at_once)
    blocks.multiply(panel, first, v.features->count, v.weights, v.features->lines, v.sums + first,
                    v.begun);
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

TANDEM_TILES void run(const AttentionStep& step) {
  Beside beside(step, products_of(step));
  if (const auto& s = step.scores; s.keys)
    s.columns > 16 ? multiply_scores<true>(s, beside) : multiply_scores<false>(s, beside);
  if (const auto& v = step.values; v.features)
    v.columns > 16 ? multiply_values<true>(v, beside) : multiply_values<false>(v, beside);
  beside.rest();
}

}  // namespace tandem::cpu
