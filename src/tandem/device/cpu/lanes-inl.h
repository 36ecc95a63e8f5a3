// Lanes of f32, whatever the numbers in memory are: loads and stores of f32 and bf16, whole vectors
// or the first few lanes, and what the kernels compute with them. Included once for every target
// (Highway's foreach_target). A product that is added to something is always an explicit MulAdd, so
// that the compiler's choice of fusing never tells one loop's bits from another's.
#if defined(TANDEM_DEVICE_CPU_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_DEVICE_CPU_LANES_INL_H
#undef TANDEM_DEVICE_CPU_LANES_INL_H
#else
#define TANDEM_DEVICE_CPU_LANES_INL_H
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "tandem/device/tensor.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::Repartition<uint32_t, F32>;
using U64 = hn::Repartition<uint64_t, F32>;
using U16 = hn::Rebind<uint16_t, F32>;
using Lanes = hn::Vec<F32>;

HWY_INLINE int64_t lane_count() { return static_cast<int64_t>(hn::Lanes(F32())); }

// Which lanes of a vector are there in memory: all, or the first `count`.
struct Whole {};
struct First {
  int64_t count;
};

HWY_INLINE Lanes load(const float* p, Whole) { return hn::LoadU(F32(), p); }
HWY_INLINE Lanes load(const bfloat16* p, Whole) {
  const auto half = hn::LoadU(U16(), &p->bits);
  return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), half)));
}
HWY_INLINE void store(Lanes v, float* p, Whole) { hn::StoreU(v, F32(), p); }
// Rounds to the nearest, ties to even; NaN stays NaN.
HWY_INLINE void store(Lanes v, bfloat16* p, Whole) {
  const U32 du;
  const auto bits = hn::BitCast(du, v);
  const auto upper = hn::ShiftRight<16>(bits);
  const auto round = hn::Add(hn::And(upper, hn::Set(du, 1u)), hn::Set(du, 0x7FFFu));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, round));
  const auto nan = hn::BitCast(du, hn::VecFromMask(F32(), hn::IsNaN(v)));
  const auto quiet = hn::Or(upper, hn::Set(du, 0x40u));
  const auto chosen = hn::IfVecThenElse(nan, quiet, rounded);
  // Sign extension makes the narrowing exact: the signed saturation below never sets in.
  const hn::Repartition<int32_t, F32> di;
  const hn::Rebind<int16_t, F32> narrow;
  const auto extended = hn::ShiftRight<16>(hn::ShiftLeft<16>(hn::BitCast(di, chosen)));
  hn::StoreU(hn::DemoteTo(narrow, extended), narrow, reinterpret_cast<int16_t*>(p));
}

// Missing lanes read as zero. Nothing beyond the numbers that are there is touched.
template <class T>
HWY_INLINE Lanes load(const T* p, First part) {
  HWY_ALIGN T padded[hn::MaxLanes(F32())] = {};
  std::memcpy(padded, p, static_cast<size_t>(part.count) * sizeof(T));
  return load(padded, Whole());
}
template <class T>
HWY_INLINE void store(Lanes v, T* p, First part) {
  HWY_ALIGN T padded[hn::MaxLanes(F32())];
  store(v, padded, Whole());
  std::memcpy(p, padded, static_cast<size_t>(part.count) * sizeof(T));
}

HWY_INLINE Lanes keep(Lanes v, Whole, float) { return v; }
// The missing lanes become `other`.
HWY_INLINE Lanes keep(Lanes v, First part, float other) {
  const F32 d;
  const auto mask = hn::FirstN(d, static_cast<size_t>(part.count));
  return hn::IfThenElse(mask, v, hn::Set(d, other));
}

// body(i, part) for i = 0, L, 2L, ... with part Whole, or First in the last vector if n % L != 0.
template <class Body>
HWY_INLINE void for_lanes(int64_t n, const Body& body) {
  const int64_t step = lane_count();
  int64_t i = 0;
  for (; i + step <= n; i += step) body(i, Whole());
  if (i < n) body(i, First{n - i});
}

HWY_INLINE float sum_lanes(Lanes v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float max_lanes(Lanes v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

// exp(x) for x <= 88, to about one unit in the last place; exactly 0 below -87.3 (where results
// would be subnormal), NaN for NaN.
HWY_INLINE Lanes exp_lanes(Lanes x) {
  const F32 d;
  const hn::Repartition<int32_t, F32> di;
  const auto zero = hn::Lt(x, hn::Set(d, -87.33f));
  const auto scaled = hn::Mul(x, hn::Set(d, 1.44269504f));
  const auto q = hn::NearestInt(scaled);
  const auto whole = hn::ConvertTo(d, q);
  auto r = hn::MulAdd(whole, hn::Set(d, -0.693145751953125f), x);
  r = hn::MulAdd(whole, hn::Set(d, -1.428606765330187e-6f), r);
  auto y = hn::Set(d, 1.98527618e-4f);
  y = hn::MulAdd(y, r, hn::Set(d, 1.39304355e-3f));
  y = hn::MulAdd(y, r, hn::Set(d, 8.33336078e-3f));
  y = hn::MulAdd(y, r, hn::Set(d, 4.16664854e-2f));
  y = hn::MulAdd(y, r, hn::Set(d, 0.166666672f));
  y = hn::MulAdd(y, r, hn::Set(d, 0.5f));
  y = hn::MulAdd(y, r, hn::Set(d, 1.0f));
  y = hn::MulAdd(y, r, hn::Set(d, 1.0f));
  const auto power = hn::ShiftLeft<23>(hn::Add(q, hn::Set(di, 127)));
  return hn::IfThenZeroElse(zero, hn::Mul(y, hn::BitCast(d, power)));
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
