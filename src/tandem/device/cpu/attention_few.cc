#include "tandem/device/cpu/attention_few.h"

#include <algorithm>
#include <limits>

#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/panels.h"

namespace tandem::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr int64_t rows_together = 4;  // whose sums are in registers
constexpr int64_t line_features = 32;

// One head of a piece, where it lies.
struct Head {
  const std::byte* first = nullptr;
  int64_t step = 0, count = 0, lines = 0;  // positions, and lines of each

  const std::byte* at(int64_t position, int64_t line) const {
    return first + position * step + line * line_bytes;
  }
};
Head head_of(const AttentionFew::Piece& piece, const Unit& unit) {
  const Tensor& t = *piece.tensor;
  return {t.row_bytes(piece.rows.begin) + unit.rows.group->kv_head * piece.dim * 2, t.stride * 2,
          piece.rows.size(), piece.dim / line_features};
}

// A line of each of up to 16 positions, where they lie or, if some are missing, side by side.
struct Lines {
  const std::byte* first = nullptr;
  int64_t step = 0;
  alignas(line_bytes) std::byte copies[16 * line_bytes];

  void take(const Head& head, int64_t position, int64_t line) {
    const int64_t count = head.count - position;
    first = head.at(position, line);
    step = head.step;
    if (count >= 16) return;
    for (int64_t i = 0; i < 16; ++i)
      std::memcpy(copies + i * line_bytes, first + std::min(i, count - 1) * step, line_bytes);
    first = copies;
    step = line_bytes;
  }
};

// scores[row][position], positions in lanes: those behind the last get scores of no meaning. As
// many groups of 16 positions at a time: a dot product waits for the one before it in its sum.
template <int rows, int groups>
TANDEM_AVX512_BF16 void score(const Head& keys, const std::byte* const* queries,
                              float (*scores)[kv_block_tokens], int64_t first,
                              AttentionFew::Near& to_bring) {
  AttentionFew::Near near = to_bring;
  __m512 sums[groups][rows];
  for (auto& group : sums)
    for (__m512& sum : group) sum = _mm512_setzero_ps();
  for (int64_t line = 0; line < keys.lines; ++line)
#pragma GCC unroll 2
    for (int g = 0; g < groups; ++g) {
      Lines lines;
      lines.take(keys, g * 16, line);
      __m512i turned[16];
      turn(lines.first, lines.step, turned);
#pragma GCC unroll 16
      for (int dword = 0; dword < 16; ++dword) {
        near.slot<AttentionFew::Near::of_keys>();
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r)
          sums[g][r] =
              _mm512_dpbf16_ps(sums[g][r], (__m512bh)turned[dword],
                               (__m512bh)in_every_lane(queries[r] + line * line_bytes + dword * 4));
      }
    }
  to_bring = near;
  for (int g = 0; g < groups; ++g)
    for (int r = 0; r < rows; ++r) _mm512_store_ps(scores[r] + first + g * 16, sums[g][r]);
}

// Positions from `seen` on are hidden. The largest of the others.
TANDEM_AVX512_BF16 float hide_and_find_highest(float* scores, int64_t seen) {
  __m512 highest = _mm512_set1_ps(minus_infinity);
  for (int64_t j = 0; j < kv_block_tokens; j += 16) {
    const auto there = static_cast<__mmask16>((1u << std::clamp<int64_t>(seen - j, 0, 16)) - 1);
    const __m512 some = _mm512_mask_load_ps(_mm512_set1_ps(minus_infinity), there, scores + j);
    _mm512_store_ps(scores + j, some);
    highest = _mm512_max_ps(highest, some);
  }
  return _mm512_reduce_max_ps(highest);
}

template <int lanes>
TANDEM_AVX512_INLINE __m512 add_lanes_apart(__m512 v) {
  const __m512i bits = _mm512_castps_si512(v);
  return _mm512_add_ps(v, _mm512_castsi512_ps(_mm512_alignr_epi32(bits, bits, lanes)));
}

// Returns their sum, in the order of attention_step_avx512.cc.
TANDEM_AVX512_BF16 float make_weights(const float* scores, float scale, float most,
                                      uint16_t* weights) {
  __m512 weight[kv_block_tokens / 16];
  for (int64_t i = 0; i < kv_block_tokens / 16; ++i) {
    const __m512 score = _mm512_load_ps(scores + 16 * i);
    weight[i] = exp2_lanes(_mm512_fmsub_ps(score, _mm512_set1_ps(scale), _mm512_set1_ps(most)));
    _mm256_store_si256(reinterpret_cast<__m256i*>(weights + 16 * i), bf16_run(weight[i]));
  }
  const __m512 sum =
      _mm512_add_ps(_mm512_add_ps(weight[0], weight[1]), _mm512_add_ps(weight[2], weight[3]));
  return _mm512_cvtss_f32(
      add_lanes_apart<1>(add_lanes_apart<2>(add_lanes_apart<4>(add_lanes_apart<8>(sum)))));
}

// Sums of a line of features: those of its lower and of its upper halves of 16 bytes.
using LineSums = float[2][16];
// Where feature f of a line stands among its sums.
constexpr int64_t place_of(int64_t f) { return f % 8 / 4 * 16 + f / 8 * 4 + f % 4; }

// Two positions are turned into pairs, and meet the weights of all rows.
template <int rows, int lines>
TANDEM_AVX512_BF16 void add_values(const Head& values, int64_t line,
                                   const uint16_t (*weights)[kv_block_tokens], int64_t first,
                                   LineSums* const* to, AttentionFew::Near& to_bring) {
  AttentionFew::Near near = to_bring;
  __m512 sums[rows][lines][2];
  for (int r = 0; r < rows; ++r)
    for (int l = 0; l < lines; ++l)
      for (int half = 0; half < 2; ++half) sums[r][l][half] = _mm512_load_ps(to[r][line + l][half]);
  const std::byte *at = values.at(0, line), *const last = values.at(values.count - 1, line);
  const auto* pair = reinterpret_cast<const std::byte*>(weights[0] + first);
  constexpr int64_t row_bytes = sizeof(weights[0]);
  for (; at <= last; at += 2 * values.step, pair += 4) {
    near.slot<AttentionFew::Near::of_values>();
    const bool both = at < last;
    __m512i pairs[lines][2];
    for (int l = 0; l < lines; ++l) {
      const __m512i even = _mm512_loadu_si512(at + l * line_bytes);
      const __m512i odd =
          both ? _mm512_loadu_si512(at + values.step + l * line_bytes) : _mm512_setzero_si512();
      pairs[l][0] = _mm512_unpacklo_epi16(even, odd);
      pairs[l][1] = _mm512_unpackhi_epi16(even, odd);
    }
    for (int r = 0; r < rows; ++r) {
      const auto weight = (__m512bh)in_every_lane(pair + r * row_bytes);
      for (int l = 0; l < lines; ++l)
        for (int half = 0; half < 2; ++half)
          sums[r][l][half] = _mm512_dpbf16_ps(sums[r][l][half], (__m512bh)pairs[l][half], weight);
    }
  }
  to_bring = near;
  for (int r = 0; r < rows; ++r)
    for (int l = 0; l < lines; ++l)
      for (int half = 0; half < 2; ++half) _mm512_store_ps(to[r][line + l][half], sums[r][l][half]);
}

template <int rows>
void add_values(const Head& values, const uint16_t (*weights)[kv_block_tokens], int64_t first,
                float* sums, AttentionFew::Near& near) {
  LineSums* to[rows];
  for (int r = 0; r < rows; ++r)
    to[r] = reinterpret_cast<LineSums*>(sums + r * values.lines * line_features);
  for (int64_t line = 0; line < values.lines; line += 2)
    (line + 1 < values.lines ? add_values<rows, 2> : add_values<rows, 1>)(values, line, weights,
                                                                          first, to, near);
}

// body(std::integral_constant<int, rows>(), first row) for some rows at a time.
template <class Body>
void for_rows_together(int64_t count, const Body& body) {
  static_assert(rows_together == 4);
  int64_t row = 0;
  for (; row + 4 <= count; row += 4) body(std::integral_constant<int, 4>(), row);
  switch (count - row) {
    case 1:
      return body(std::integral_constant<int, 1>(), row);
    case 2:
      return body(std::integral_constant<int, 2>(), row);
    case 3:
      return body(std::integral_constant<int, 3>(), row);
  }
}
int64_t times_together(int64_t count) { return (count + rows_together - 1) / rows_together; }

}  // namespace

bool AttentionFew::does(const Attention& op, const Engine& engine, const AttentionItem& item) {
  const bool whole_lines =
      op.heads.head_dim % line_features == 0 && op.heads.value_dim % line_features == 0;
  const bool few = std::ranges::all_of(item.groups, [&](const HeadGroup& group) {
    return item.queries.size() * group.size() <= few_columns;
  });
  return !engine.tiles && whole_lines && few && !op.dropout.active();
}

AttentionFew::AttentionFew(const Attention& op, const AttentionItem& item,
                           std::span<const Row> rows)
    : op_(op), item_(item) {
  static thread_local Scratch state_scratch, sum_scratch;
  const int64_t row_sums = op.heads.value_dim;
  states_ = pointers<State>(state_scratch, static_cast<int64_t>(rows.size()));
  int64_t count = 0;
  for (const Row& row : rows) count += row.unit.count();
  float* sums = sum_scratch.get<float>(count * row_sums);
  for (size_t u = 0; u < rows.size(); ++u) {
    State& state = states_[u];
    state.row = &rows[u];
    state.sums = std::exchange(sums, sums + rows[u].unit.count() * row_sums);
    rows[u].unit.pointers(op.q, op.heads.head_dim, state.queries);
  }
}

void AttentionFew::run(int64_t stretch) {
  for (State& state : states_) {
    reset(state.row->sums);
    std::fill_n(state.sums, state.row->unit.count() * op_.heads.value_dim, 0.0f);
  }
  const int64_t end = std::min((stretch + 1) * stretch_tokens, item_.key_count());
  for (int64_t position = stretch * stretch_tokens; position < end; position += kv_block_tokens)
    block(position);
  for (const State& state : states_) hand_over(state);
}

AttentionFew::Pieces AttentionFew::pieces(int64_t position) const {
  Pieces all;
  if (position >= item_.stretches.end * stretch_tokens) return all;
  const Interval rows = item_.rows(0).block(position);
  const auto add = [&](const Tensor& t, int64_t dim) {
    for (int64_t first = 0; first < rows.size(); first += piece_positions)
      all.list[all.count++] = {
          &t,
          dim,
          {rows.begin + first, std::min(rows.begin + first + piece_positions, rows.end)},
          first};
  };
  add(op_.keys, op_.heads.head_dim);
  add(op_.values, op_.heads.value_dim);
  return all;
}

void AttentionFew::block(int64_t position) {
  const Pieces now = pieces(position);
  const Piece after = pieces(position + kv_block_tokens).list[0];
  const int64_t keys = now.count / 2;
  for (int64_t i = 0; i < now.count; ++i) {
    const Piece& piece = now.list[i];
    Near ahead = near(piece, i < keys, i + 1 < now.count ? now.list[i + 1] : after);
    for (State& state : states_) {
      if (i < keys) score(piece, state, ahead);
      if (i == keys - 1) weigh(state, position);
      if (i >= keys) add_values(piece, state, ahead);
    }
  }
}

AttentionFew::Near::Near(const AttentionItem& item, const Piece& piece, int64_t steps, int places) {
  if (!piece.tensor) return;
  const Tensor& t = *piece.tensor;
  const int64_t first = item.groups.front().kv_head, end = item.groups.back().kv_head + 1;
  int64_t rows = piece.rows.size(), row_bytes = (end - first) * piece.dim * 2;
  const int64_t row_step = t.stride * 2, asked = 16 * places;
  if (row_bytes == row_step) row_bytes *= std::exchange(rows, 1);
  const auto parts = [](int64_t whole, int64_t part) { return (whole + part - 1) / part; };
  apart_ = std::min(parts(rows * row_bytes, steps * asked), line_bytes);
  const int64_t slots = parts(row_bytes, apart_ * places);
  run_ = {.at = t.row_bytes(piece.rows.begin) + first * piece.dim * 2,
          .pieces_of_row = slots,
          .row_gap = row_step - slots * apart_ * places};
}

// Work on keys has a step for each 16 positions of a line, that on values one for each two lines.
AttentionFew::Near AttentionFew::near(const Piece& piece, bool keys, const Piece& next) const {
  const int64_t lines = piece.dim / line_features;
  const int64_t each = keys ? lines * (piece.rows.size() > 16 ? 2 : 1) : (lines + 1) / 2;
  int64_t times = 0;
  for (const State& state : states_) times += times_together(state.row->unit.count());
  return {item_, next, times * each, keys ? Near::of_keys : Near::of_values};
}

void AttentionFew::score(const Piece& piece, State& state, Near& near) const {
  const Head keys = head_of(piece, state.row->unit);
  for_rows_together(state.row->unit.count(), [&](auto rows, int64_t r) {
    (keys.count > 16 ? cpu::score<rows, 2> : cpu::score<rows, 1>)(keys, state.queries + r,
                                                                  state.scores + r, piece.first,
                                                                  near);
  });
}

void AttentionFew::add_values(const Piece& piece, State& state, Near& near) const {
  const Head values = head_of(piece, state.row->unit);
  for_rows_together(state.row->unit.count(), [&](auto rows, int64_t r) {
    cpu::add_values<rows>(values, state.weights + r, piece.first, state.sums + r * piece.dim, near);
  });
}

void AttentionFew::weigh(State& state, int64_t position) const {
  const Unit& unit = state.row->unit;
  const RowSums& sums = state.row->sums;
  const float scale = op_.heads.scale * log2_e;
  RowLine highest, shrink;
  std::fill_n(highest, row_lanes, minus_infinity);
  for (int64_t r = 0; r < unit.count(); ++r)
    highest[r] =
        hide_and_find_highest(state.scores[r], unit.rows.seen(unit.some.begin + r, position));
  const bool raised = softmax_raise(sums, highest, few_columns, scale, shrink);
  for (int64_t r = 0; r < unit.count(); ++r) {
    const int64_t dim = op_.heads.value_dim;
    float* const values = state.sums + r * dim;
    for (int64_t f = 0; f < dim && raised; ++f) values[f] *= shrink[r];
    sums.weight[r] += make_weights(state.scores[r], scale, sums.most[r], state.weights[r]);
  }
}

void AttentionFew::hand_over(const State& state) const {
  const int64_t dim = op_.heads.value_dim;
  for (int64_t lane = 0; lane < state.row->unit.count(); ++lane)
    for (int64_t f = 0; f < dim; ++f) {
      const int64_t line = f / line_features * line_features;
      state.row->sums.values[f][lane] = state.sums[lane * dim + line + place_of(f % line_features)];
    }
}

}  // namespace tandem::cpu
