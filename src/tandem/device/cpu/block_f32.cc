// The kernel in f32: a number of the panel times columns of a strip.
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
constexpr int most_columns = lanes == 16 ? 32 : 16;  // computed together,
constexpr int group = lanes == 16 ? 8 : 4;           // with this many rows, in registers

template <int columns>
void multiply_group(const BlockProduct& p, int first_row, const std::byte* b, float* c) {
  const bool first = first_row == 0 && b == p.b;
  const std::byte* a = p.a.half[first_row / 16] + first_row % 16 * p.a.row_step;
  const D d;
  constexpr int vectors = columns / lanes;
  hn::Vec<D> sums[group][vectors];
  for (int r = 0; r < group; ++r)
    for (int v = 0; v < vectors; ++v)
      sums[r][v] = p.accumulate ? hn::LoadU(d, c + r * p.c_stride + v * lanes) : hn::Zero(d);
  for (int64_t line = 0; line < p.lines; ++line, a += p.a.line_step) {
    if (first) p.meanwhile.run();
    for (int dword = 0; dword < 16; ++dword, b += strip_dword_bytes) {
      hn::Vec<D> numbers[vectors];
      for (int v = 0; v < vectors; ++v)
        numbers[v] = hn::LoadU(d, reinterpret_cast<const float*>(b) + v * lanes);
      HWY_UNROLL(8)
      for (int r = 0; r < group; ++r) {
        float number;
        std::memcpy(&number, a + r * p.a.row_step + dword * 4, 4);
        const auto row = hn::Set(d, number);
        for (int v = 0; v < vectors; ++v) sums[r][v] = hn::MulAdd(row, numbers[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < group; ++r)
    for (int v = 0; v < vectors; ++v) hn::StoreU(sums[r][v], d, c + r * p.c_stride + v * lanes);
}

void multiply(const BlockProduct& p) {
  for (int row = 0; row < p.rows; row += group) {
    float* c = p.c + row * p.c_stride;
    if (p.columns > 16 && most_columns == 32) {
      multiply_group<most_columns>(p, row, p.b, c);
      continue;
    }
    for (int column = 0; column < p.columns; column += 16)
      multiply_group<16>(p, row, p.b + column * 4, c + column);
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(multiply);

void f32_block(const BlockProduct& p) { HWY_DYNAMIC_DISPATCH(multiply)(p); }

}  // namespace tandem::cpu
#endif
