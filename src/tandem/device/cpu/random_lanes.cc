#include "tandem/device/cpu/random_lanes.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/random_lanes.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"
// Behind foreach_target.h.
#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

using Words = hn::Vec<U32>;

struct WordPair {
  Words high, low;
};
// The 64-bit products of all lanes with a constant.
HWY_INLINE WordPair multiply(Words a, uint32_t by) {
  const U32 d;
#if HWY_TARGET == HWY_SCALAR
  const uint64_t product = uint64_t{hn::GetLane(a)} * by;
  return {hn::Set(d, static_cast<uint32_t>(product >> 32)),
          hn::Set(d, static_cast<uint32_t>(product))};
#else
  const U64 d64;
  const auto factor = hn::Set(d, by);
  const auto odd_lanes = hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(d64, a)));
  const auto even = hn::MulEven(a, factor), odd = hn::MulEven(odd_lanes, factor);
  const auto high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  const auto low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  return {high, low};
#endif
}

// philox() of base/random.h for consecutive blocks, one a lane.
struct Blocks {
  Words word[4];
};
HWY_INLINE Blocks philox_lanes(uint64_t key, uint64_t item, uint64_t first_block) {
  const U32 d;
  HWY_ALIGN uint32_t low[hn::MaxLanes(U32())], high[hn::MaxLanes(U32())];
  for (size_t i = 0; i < hn::Lanes(d); ++i) {
    low[i] = static_cast<uint32_t>(first_block + i);
    high[i] = static_cast<uint32_t>((first_block + i) >> 32);
  }
  auto c0 = hn::Set(d, static_cast<uint32_t>(item)),
       c1 = hn::Set(d, static_cast<uint32_t>(item >> 32));
  auto c2 = hn::Load(d, low), c3 = hn::Load(d, high);
  uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const WordPair a = multiply(c0, 0xD2511F53), b = multiply(c2, 0xCD9E8D57);
    c0 = hn::Xor(hn::Xor(b.high, c1), hn::Set(d, key0));
    c2 = hn::Xor(hn::Xor(a.high, c3), hn::Set(d, key1));
    c1 = b.low;
    c3 = a.low;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return {{c0, c1, c2, c3}};
}

// Uniform in [0, 1), as unit_float().
HWY_INLINE Lanes unit_lanes(Words bits) {
  const hn::Repartition<int32_t, F32> signed_words;
  const auto whole = hn::BitCast(signed_words, hn::ShiftRight<8>(bits));
  return hn::Mul(hn::ConvertTo(F32(), whole), hn::Set(F32(), 0x1p-24f));
}

// make(blocks, v) makes four vectors, one for each word; out[j] becomes number first + j.
template <class Make>
HWY_INLINE void by_blocks(uint64_t key, uint64_t item, int64_t first, int64_t count, float* out,
                          const Make& make) {
  constexpr int64_t most = 4 * static_cast<int64_t>(hn::MaxLanes(F32()));
  HWY_ALIGN float made[most];
  const int64_t step = 4 * lane_count();
  for (int64_t from = first / 4 * 4; from < first + count; from += step) {
    Lanes v[4];
    make(philox_lanes(key, item, static_cast<uint64_t>(from) / 4), v);
#if HWY_TARGET == HWY_SCALAR
    for (int i = 0; i < 4; ++i) made[i] = hn::GetLane(v[i]);
#else
    hn::StoreInterleaved4(v[0], v[1], v[2], v[3], F32(), made);
#endif
    const int64_t begin = std::max(from, first), end = std::min(from + step, first + count);
    std::copy(made + (begin - from), made + (end - from), out + (begin - first));
  }
}

void mask(uint64_t source_key, float probability, uint64_t item, int64_t first, int64_t count,
          float* out) {
  const auto limit = hn::Set(F32(), probability), kept = hn::Set(F32(), 1 / (1 - probability));
  by_blocks(source_key, item, first, count, out, [&](const Blocks& blocks, Lanes* v) HWY_ATTR {
    for (int i = 0; i < 4; ++i) {
      v[i] = hn::IfThenElseZero(hn::Ge(unit_lanes(blocks.word[i]), limit), kept);
    }
  });
}

void normal(uint64_t source_key, uint64_t item, int64_t first, int64_t count, float* out) {
  const F32 d;
  by_blocks(source_key, item, first, count, out, [&](const Blocks& blocks, Lanes* v) HWY_ATTR {
    for (int i = 0; i < 4; i += 2) {
      const auto u = hn::Sub(hn::Set(d, 1.0f), unit_lanes(blocks.word[i]));
      const auto radius = hn::Sqrt(hn::Mul(hn::Set(d, -2.0f), hn::Log(d, u)));
      const auto angle = hn::Mul(hn::Set(d, 6.28318531f), unit_lanes(blocks.word[i + 1]));
      v[i] = hn::Mul(radius, hn::Cos(d, angle));
      v[i + 1] = hn::Mul(radius, hn::Sin(d, angle));
    }
  });
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(mask);
HWY_EXPORT(normal);

namespace {
// A source is its Philox key and nothing else.
uint64_t key_of(const RandomSource& source) { return std::bit_cast<uint64_t>(source); }
}  // namespace

void dropout_mask(const RandomSource& source, float probability, uint64_t key, int64_t first,
                  int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(mask)(key_of(source), probability, key, first, count, out);
}

void normal_numbers(const RandomSource& source, uint64_t item, int64_t first, int64_t count,
                    float* out) {
  HWY_DYNAMIC_DISPATCH(normal)(key_of(source), item, first, count, out);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
