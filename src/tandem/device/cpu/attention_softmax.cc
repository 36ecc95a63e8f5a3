#include "tandem/device/cpu/attention_softmax.h"

#include <algorithm>
#include <limits>

#include "tandem/device/cpu/targets.h"
// The instruction sets come before anything of Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/attention_softmax.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
constexpr float headroom = 8;

// 2^x for x < 120, exactly 0 below -126, exactly 1 for 0, NaN for NaN.
HWY_INLINE Lanes exp2_lanes(Lanes x) {
  const F32 d;
  const U32 du;
  const auto zero = hn::Lt(x, hn::Set(d, -126.0f));
  // The addition rounds x to a whole number, which it leaves in the lowest bits.
  const auto rounder = hn::Set(d, 0x1.8p23f);
  const auto shifted = hn::Add(x, rounder);
  const auto r = hn::Sub(x, hn::Sub(shifted, rounder));
  auto y = hn::MulAdd(hn::Set(d, 1.55946782e-4f), r, hn::Set(d, 1.34066439e-3f));
  y = hn::MulAdd(y, r, hn::Set(d, 9.61769297e-3f));
  y = hn::MulAdd(y, r, hn::Set(d, 5.55031055e-2f));
  y = hn::MulAdd(y, r, hn::Set(d, 0.240226528f));
  y = hn::MulAdd(y, r, hn::Set(d, 0.693147215f));
  y = hn::MulAdd(y, r, hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::IfThenZeroElse(zero, hn::BitCast(d, hn::Add(hn::BitCast(du, y), power)));
}

// `highest`: the largest scores of some lanes, from `lane` on.
HWY_INLINE bool raise_lanes(const RowSums& sums, Lanes highest, int64_t lane, float scale,
                            RowLine& shrink) {
  const F32 d;
  const auto top = hn::Mul(hn::Set(d, scale), highest);
  const auto before = hn::Load(d, sums.most + lane);
  const auto grown = hn::Gt(top, hn::Add(before, hn::Set(d, headroom)));
  const auto most = hn::IfThenElse(grown, top, before);
  const auto by = exp2_lanes(hn::Sub(before, most));
  hn::Store(most, d, sums.most + lane);
  hn::Store(hn::Mul(by, hn::Load(d, sums.weight + lane)), d, sums.weight + lane);
  hn::StoreU(by, d, shrink + lane);
  return !hn::AllFalse(d, grown);
}

bool raise_most(const SoftmaxStep& s, RowLine& shrink) {
  const F32 d;
  bool any = false;
  for (int64_t lane = 0; lane < s.columns; lane += lane_count()) {
    Lanes tops[4];
    for (Lanes& top : tops) top = hn::Set(d, minus_infinity);
    for (int64_t j = 0; j < kv_block_tokens; j += 4)
      for (int64_t i = 0; i < 4; ++i)
        tops[i] = hn::Max(tops[i], hn::Load(d, (*s.scores)[j + i] + lane));
    const auto highest = hn::Max(hn::Max(tops[0], tops[1]), hn::Max(tops[2], tops[3]));
    any |= raise_lanes(s.sums, highest, lane, s.scale, shrink);
  }
  return any;
}

bool raise_to(const RowSums& sums, const RowLine& highest, int columns, float scale,
              RowLine& shrink) {
  bool any = false;
  for (int64_t lane = 0; lane < columns; lane += lane_count())
    any |= raise_lanes(sums, hn::LoadU(F32(), highest + lane), lane, scale, shrink);
  return any;
}

void shrink_lines(RowLine* values, int64_t lines, const RowLine& by) {
  const F32 d;
  for (int64_t lane = 0; lane < row_lanes; lane += lane_count()) {
    const auto shrink = hn::LoadU(d, by + lane);
    for (int64_t i = 0; i < lines; ++i) {
      float* at = values[i] + lane;
      hn::Store(hn::Mul(shrink, hn::Load(d, at)), d, at);
    }
  }
}

void hide(BlockScores& scores, const RowLine& seen) {
  const F32 d;
  const int64_t step = lane_count();
  const auto first = static_cast<int64_t>(*std::min_element(seen, seen + row_lanes));
  for (int64_t j = std::max<int64_t>(0, first); j < kv_block_tokens; ++j)
    for (int64_t lane = 0; lane < row_lanes; lane += step) {
      const auto sees = hn::Lt(hn::Set(d, static_cast<float>(j)), hn::LoadU(d, seen + lane));
      float* at = scores[j] + lane;
      hn::Store(hn::IfThenElse(sees, hn::Load(d, at), hn::Set(d, minus_infinity)), d, at);
    }
}

void join_sums(const RowSums& a, const RowSums& b, int64_t lines) {
  const F32 d;
  for (int64_t lane = 0; lane < row_lanes; lane += lane_count()) {
    const auto most_a = hn::Load(d, a.most + lane), most_b = hn::Load(d, b.most + lane);
    const auto most = hn::Max(most_a, most_b);
    const auto shrink_a = exp2_lanes(hn::Sub(most_a, most));
    const auto shrink_b = exp2_lanes(hn::Sub(most_b, most));
    const auto add = [&](float* to, const float* from) HWY_ATTR {
      const auto shrunk = hn::Mul(shrink_a, hn::Load(d, to + lane));
      hn::Store(hn::MulAdd(shrink_b, hn::Load(d, from + lane), shrunk), d, to + lane);
    };
    hn::Store(most, d, a.most + lane);
    add(a.weight, b.weight);
    for (int64_t i = 0; i < lines; ++i) add(a.values[i], b.values[i]);
  }
}

void divide_sums(const RowSums& sums, int64_t lines) {
  const F32 d;
  for (int64_t lane = 0; lane < row_lanes; lane += lane_count()) {
    const auto share = hn::Div(hn::Set(d, 1.0f), hn::Load(d, sums.weight + lane));
    for (int64_t i = 0; i < lines; ++i) {
      float* at = sums.values[i] + lane;
      // Zero has one sign: how many zeros were added to a sum of nothing depends on other rows.
      hn::Store(hn::Add(hn::Mul(share, hn::Load(d, at)), hn::Zero(d)), d, at);
    }
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(hide);
HWY_EXPORT(raise_most);
HWY_EXPORT(raise_to);
HWY_EXPORT(shrink_lines);
HWY_EXPORT(join_sums);
HWY_EXPORT(divide_sums);

RowSums row_sums(float* memory, int64_t value_dim) {
  const int64_t lines = value_lines(value_dim);
  float* behind = memory + lines * row_lanes;
  return {reinterpret_cast<RowLine*>(memory), behind, behind + row_lanes};
}

void reset(const RowSums& sums) {
  // Below every score, and finite: the difference to -infinity is a number.
  std::fill_n(sums.most, row_lanes, -1e30f);
  std::fill_n(sums.weight, row_lanes, 0.0f);
}

void hide_unseen(BlockScores& scores, const RowLine& seen) {
  HWY_DYNAMIC_DISPATCH(hide)(scores, seen);
}
bool softmax_raise(const SoftmaxStep& step, RowLine& shrink) {
  return HWY_DYNAMIC_DISPATCH(raise_most)(step, shrink);
}
bool softmax_raise(const RowSums& sums, const RowLine& highest, int columns, float scale,
                   RowLine& shrink) {
  return HWY_DYNAMIC_DISPATCH(raise_to)(sums, highest, columns, scale, shrink);
}
void shrink_values(RowLine* values, int64_t lines, const RowLine& shrink) {
  HWY_DYNAMIC_DISPATCH(shrink_lines)(values, lines, shrink);
}
void join(const RowSums& a, const RowSums& b, int64_t value_lines) {
  HWY_DYNAMIC_DISPATCH(join_sums)(a, b, value_lines);
}
void divide(const RowSums& sums, int64_t value_lines) {
  HWY_DYNAMIC_DISPATCH(divide_sums)(sums, value_lines);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
