// The kernel in f32: a number of the panel times 16 columns of a strip.
#include "tandem/device/cpu/targets.h"
// The instruction sets come before anything of Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/block_f32.cc"
#include <cstring>

#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/blocks.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;

constexpr int lanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int parts = 16 / lanes;                 // vectors of a strip
constexpr int most_strips = lanes == 16 ? 2 : 1;  // computed together,
constexpr int group = lanes == 16 ? 8 : 4;        // with this many rows, in registers

template <int strips>
void multiply_group(const BlockProduct& p, int first_row, const std::byte* b, float* c) {
  const std::byte* a = p.a.half[first_row / 16] + first_row % 16 * p.a.row_step;
  const auto ahead = rows_ahead(p, first_row, group);
  const D d;
  constexpr int vectors = strips * parts;
  const auto column = [](int v) { return v / parts * 16 + v % parts * lanes; };
  hn::Vec<D> sums[group][vectors];
  for (int r = 0; r < group; ++r)
    for (int v = 0; v < vectors; ++v)
      sums[r][v] = p.accumulate ? hn::LoadU(d, c + r * p.c_stride + column(v)) : hn::Zero(d);
  for (int64_t line = 0; line < p.lines; ++line, a += p.a.line_step) {
    for (const std::byte* row : ahead)
      __builtin_prefetch(row + p.ahead_offset + line * line_bytes, 0, 2);
    for (int dword = 0; dword < 16; ++dword, b += line_bytes) {
      hn::Vec<D> columns[vectors];
      for (int v = 0; v < vectors; ++v)
        columns[v] = hn::LoadU(
            d, reinterpret_cast<const float*>(b + v / parts * p.b.strip_step) + v % parts * lanes);
      HWY_UNROLL(8)
      for (int r = 0; r < group; ++r) {
        float number;
        std::memcpy(&number, a + r * p.a.row_step + dword * 4, 4);
        const auto row = hn::Set(d, number);
        for (int v = 0; v < vectors; ++v) sums[r][v] = hn::MulAdd(row, columns[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < group; ++r)
    for (int v = 0; v < vectors; ++v) hn::StoreU(sums[r][v], d, c + r * p.c_stride + column(v));
}

void multiply(const BlockProduct& p) {
  for (int row = 0; row < p.rows; row += group) {
    float* c = p.c + row * p.c_stride;
    if (p.strips == most_strips) {
      multiply_group<most_strips>(p, row, p.b.data, c);
      continue;
    }
    for (int s = 0; s < p.strips; ++s)
      multiply_group<1>(p, row, p.b.data + s * p.b.strip_step, c + s * 16);
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(multiply);

void f32_block(const BlockProduct& p) {
  p.meanwhile.run();
  HWY_DYNAMIC_DISPATCH(multiply)(p);
}

}  // namespace tandem::cpu
#endif
