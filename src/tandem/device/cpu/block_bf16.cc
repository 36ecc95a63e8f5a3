// The kernel with AVX-512 bf16 dot products. With many columns lanes are those: a dword of the
// panel times 32 of them. With few, which would leave lanes empty, lanes are rows of the panel,
// turned in registers, and the strip lies as panels do. Sums are the same, in the same order.
#include <utility>

#include "tandem/device/cpu/avx512_lanes.h"
#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {
namespace {

constexpr int group = 8;  // rows whose sums are in registers together

// `near`: of this half of the panel; what is left of it is for the next group.
TANDEM_AVX512_BF16 void multiply_group(const BlockProduct& p, int first_row, Run& near) {
  float* const c = p.c + first_row * p.c_stride;
  const std::byte* a = p.a.half[first_row / 16] + first_row % 16 * p.a.row_step;
  __m512 sums[group][2];
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < 2; ++s)
      sums[r][s] =
          p.accumulate ? _mm512_loadu_ps(c + r * p.c_stride + s * 16) : _mm512_setzero_ps();
  const std::byte* b = p.b;
  Run run = near;
  for (int64_t line = 0, turn = 1; line < p.lines; ++line, ++turn, a += p.a.line_step) {
    if (first_row == 0) p.meanwhile.run();
    for (int dword = 0; dword < 16; ++dword, b += strip_dword_bytes) {
      run.bring<group>(dword);
      const __m512i columns[2] = {_mm512_loadu_si512(b), _mm512_loadu_si512(b + line_bytes)};
#pragma GCC unroll 8
      for (int r = 0; r < group; ++r) {
        const auto row = (__m512bh)in_every_lane(a + r * p.a.row_step + dword * 4);
        for (int s = 0; s < 2; ++s)
          sums[r][s] = _mm512_dpbf16_ps(sums[r][s], row, (__m512bh)columns[s]);
      }
    }
    if (turn < p.turns) continue;
    turn = 0;
    run.next<group>();
  }
  near = run;
  for (int r = 0; r < group; ++r)
    for (int s = 0; s < 2; ++s) _mm512_storeu_ps(c + r * p.c_stride + s * 16, sums[r][s]);
}

// `half`: 16 rows of the panel.
template <int columns>
TANDEM_AVX512_BF16 void multiply_few(const FewProduct& p, int half) {
  __m512 sums[columns];
  float* const c = p.c + half * 16;
  for (int s = 0; s < columns; ++s)
    sums[s] = p.accumulate ? _mm512_loadu_ps(c + s * block_rows) : _mm512_setzero_ps();
  RowLines a(p.a.half[half], p.a.row_step);
  const std::byte* b = p.b;
  Run near = p.near[half].or_at(p.b);
  for (int64_t line = 0; line < p.lines; ++line, b += strip_line_bytes) {
    __m512i rows[16];
    turn(a, p.a.line_step, rows);
#pragma GCC unroll 16
    for (int dword = 0; dword < 16; ++dword) {
      near.bring<16>(dword);
#pragma GCC unroll 16
      for (int s = 0; s < columns; ++s)
        sums[s] = _mm512_dpbf16_ps(sums[s], (__m512bh)rows[dword],
                                   (__m512bh)in_every_lane(b + s * line_bytes + dword * 4));
    }
    near.next<16>();
  }
  for (int s = 0; s < columns; ++s) _mm512_storeu_ps(c + s * block_rows, sums[s]);
}

template <int... columns>
void multiply_few(const FewProduct& p, std::integer_sequence<int, columns...>) {
  static constexpr void (*by_columns[])(const FewProduct&, int) = {multiply_few<columns + 1>...};
  for (int half = 0; half < p.rows / 16; ++half) by_columns[p.columns - 1](p, half);
}

}  // namespace

void avx512_bf16_block(const BlockProduct& p) {
  Run near[2] = {p.near[0].or_at(p.b), p.near[1].or_at(p.b)};
  for (int row = 0; row < p.rows; row += group) multiply_group(p, row, near[row / 16]);
}

void avx512_bf16_few(const FewProduct& p) {
  multiply_few(p, std::make_integer_sequence<int, few_columns>());
}

}  // namespace tandem::cpu
