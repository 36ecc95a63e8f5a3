// The kernel of int8 with AVX-512 dot products of four (VNNI), as block_bf16.cc has it for bf16:
// with many columns lanes are those, with few they are rows of the panel.
#include <utility>

#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/blocks.h"

#define TANDEM_VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define TANDEM_VNNI_INLINE __attribute__((target("avx512f,avx512vnni"), always_inline)) inline

namespace tandem::cpu {
namespace {

constexpr int group = 8;  // rows whose sums are in registers together

// before + (sum - excess) row column
TANDEM_VNNI_INLINE __m512 scaled(__m512i sum, __m512i excess, __m512 row, __m512 column,
                                 __m512 before) {
  const __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, excess));
  return _mm512_fmadd_ps(exact, _mm512_mul_ps(row, column), before);
}

// `near`: of this half of the panel; what is left of it is for the next group.
TANDEM_VNNI void multiply_group(const BlockProduct& p, int first_row, Run& near) {
  float* const c = p.c + first_row * p.c_stride;
  const std::byte *a = p.a.half[first_row / 16] + first_row % 16 * p.a.row_step, *b = p.b;
  const float* columns = p.factors.columns;
  const int32_t* excess = p.factors.excess;
  const float* rows = p.factors.rows + first_row;
  __m512 total[group][2];  // c is written when nothing goes on meanwhile
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < 2; ++s)
      total[r][s] =
          p.accumulate ? _mm512_loadu_ps(c + r * p.c_stride + s * 16) : _mm512_setzero_ps();
  Run run = near;
  int turn = 1;
  for (int64_t line = 0; line < p.lines; line += int8_block_lines) {
    __m512i sums[group][2];
    for (auto& row : sums) row[0] = row[1] = _mm512_setzero_si512();
    for (int64_t end = std::min(line + int8_block_lines, p.lines), i = line; i < end; ++i) {
      if (first_row == 0) p.meanwhile.run();
      for (int dword = 0; dword < 16; ++dword, b += strip_dword_bytes) {
        run.bring<group>(dword);
        const __m512i x[2] = {_mm512_loadu_si512(b), _mm512_loadu_si512(b + line_bytes)};
#pragma GCC unroll 8
        for (int r = 0; r < group; ++r) {
          const __m512i weight = in_every_lane(a + r * p.a.row_step + dword * 4);
          for (int s = 0; s < 2; ++s) sums[r][s] = _mm512_dpbusd_epi32(sums[r][s], weight, x[s]);
        }
      }
      a += p.a.line_step;
      if (turn++ < p.turns) continue;
      turn = 1;
      run.next<group>();
    }
    for (int s = 0; s < 2; ++s) {
      const __m512 column = _mm512_loadu_ps(columns + s * 16);
      const __m512i over = _mm512_loadu_si512(excess + s * 16);
      for (int r = 0; r < group; ++r)
        total[r][s] = scaled(sums[r][s], over, _mm512_set1_ps(rows[r]), column, total[r][s]);
    }
    columns += p.factors.columns_step;
    excess += p.factors.columns_step;
    rows += block_rows;
  }
  near = run;
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < 2; ++s) _mm512_storeu_ps(c + r * p.c_stride + s * 16, total[r][s]);
}

// Some halves of the panel, 16 rows each, from `first` on: with one or two columns both of them,
// since a dot product waits for the one before it in its sum.
template <int columns, int halves>
TANDEM_VNNI void multiply_few(const FewProduct& p, int first) {
  const auto c = [&](int h, int s) { return p.c + (first + h) * 16 + s * block_rows; };
  __m512 sums[halves][columns];
  for (int h = 0; h < halves; ++h)
    for (int s = 0; s < columns; ++s)
      sums[h][s] = p.accumulate ? _mm512_loadu_ps(c(h, s)) : _mm512_setzero_ps();
  const std::byte* b = p.b;
  RowLines a[2] = {{p.a.half[first], p.a.row_step}, {p.a.half[first + halves - 1], p.a.row_step}};
  Run near[2] = {p.near[first].or_at(p.b), p.near[first + halves - 1].or_at(p.b)};
  for (int64_t line = 0, block = 0; line < p.lines; line += int8_block_lines, ++block) {
    __m512i exact[halves][columns];
    for (auto& half : exact)
      for (__m512i& sum : half) sum = _mm512_setzero_si512();
    for (int64_t end = std::min(line + int8_block_lines, p.lines), i = line; i < end; ++i) {
#pragma GCC unroll 2
      for (int h = 0; h < halves; ++h) {
        __m512i rows[16];
        turn(a[h], p.a.line_step, rows);
#pragma GCC unroll 16
        for (int dword = 0; dword < 16; ++dword) {
          near[h].bring<16>(dword);
#pragma GCC unroll 16
          for (int s = 0; s < columns; ++s)
            exact[h][s] = _mm512_dpbusd_epi32(exact[h][s], rows[dword],
                                              in_every_lane(b + s * line_bytes + dword * 4));
        }
        near[h].next<16>();
      }
      b += strip_line_bytes;
    }
    const Int8Factors& f = p.factors;
    for (int h = 0; h < halves; ++h) {
      const __m512 row = _mm512_loadu_ps(f.rows + block * block_rows + (first + h) * 16);
      for (int s = 0; s < columns; ++s) {
        const int64_t at = block * f.columns_step + s;
        sums[h][s] = scaled(exact[h][s], _mm512_set1_epi32(f.excess[at]), row,
                            _mm512_set1_ps(f.columns[at]), sums[h][s]);
      }
    }
  }
  for (int h = 0; h < halves; ++h)
    for (int s = 0; s < columns; ++s) _mm512_storeu_ps(c(h, s), sums[h][s]);
}

template <int... columns>
void multiply_few(const FewProduct& p, std::integer_sequence<int, columns...>) {
  using Kernel = void (*)(const FewProduct&, int);
  static constexpr Kernel one_half[] = {multiply_few<columns + 1, 1>...};
  static constexpr Kernel two_halves[] = {multiply_few<1, 2>, multiply_few<2, 2>};
  if (p.rows == 32 && p.columns <= 2) return two_halves[p.columns - 1](p, 0);
  for (int half = 0; half < p.rows / 16; ++half) one_half[p.columns - 1](p, half);
}

}  // namespace

bool vnni_supported() { return __builtin_cpu_supports("avx512vnni"); }

void vnni_block(const BlockProduct& p) {
  Run near[2] = {p.near[0].or_at(p.b), p.near[1].or_at(p.b)};
  for (int row = 0; row < p.rows; row += group) multiply_group(p, row, near[row / 16]);
}

void vnni_few(const FewProduct& p) {
  multiply_few(p, std::make_integer_sequence<int, few_columns>());
}

}  // namespace tandem::cpu
