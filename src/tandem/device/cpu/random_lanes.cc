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

// A block of each lane: number `block` of an item.
struct Counters {
  HWY_ALIGN uint32_t item_low[hn::MaxLanes(U32())], item_high[hn::MaxLanes(U32())];
  HWY_ALIGN uint32_t block_low[hn::MaxLanes(U32())], block_high[hn::MaxLanes(U32())];

  void set(int64_t lane, uint64_t item, uint64_t block) {
    item_low[lane] = static_cast<uint32_t>(item);
    item_high[lane] = static_cast<uint32_t>(item >> 32);
    block_low[lane] = static_cast<uint32_t>(block);
    block_high[lane] = static_cast<uint32_t>(block >> 32);
  }
};

// philox() of base/random.h, a block a lane.
struct Blocks {
  Words word[4];
};
HWY_INLINE Blocks philox_lanes(uint64_t key, const Counters& counters) {
  const U32 d;
  auto c0 = hn::Load(d, counters.item_low), c1 = hn::Load(d, counters.item_high);
  auto c2 = hn::Load(d, counters.block_low), c3 = hn::Load(d, counters.block_high);
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

// make(blocks, v) makes four vectors, one for each word; out[i * stride + j] becomes number
// numbers.begin + j of items[i]. Lanes go on from one item to the next.
template <class Make>
HWY_INLINE void by_blocks(uint64_t key, std::span<const uint64_t> items, const Interval& numbers,
                          float* out, int64_t stride, const Make& make) {
  if (numbers.empty()) return;
  constexpr int64_t block_numbers = 4;
  HWY_ALIGN float made[block_numbers * hn::MaxLanes(F32())];
  const Interval blocks{numbers.begin / block_numbers,
                        (numbers.end + block_numbers - 1) / block_numbers};
  Counters counters = {};
  size_t item = 0;
  int64_t block = 0;  // of the next lane
  while (item < items.size()) {
    size_t made_item = item;
    int64_t made_block = block, lanes = 0;
    for (; lanes < lane_count() && item < items.size(); ++lanes) {
      counters.set(lanes, items[item], blocks.begin + block);
      if (++block == blocks.size()) block = 0, ++item;
    }
    Lanes v[block_numbers];
    make(philox_lanes(key, counters), v);
#if HWY_TARGET == HWY_SCALAR
    for (int i = 0; i < block_numbers; ++i) made[i] = hn::GetLane(v[i]);
#else
    hn::StoreInterleaved4(v[0], v[1], v[2], v[3], F32(), made);
#endif
    for (int64_t lane = 0; lane < lanes; ++made_item, made_block = 0) {
      const int64_t some = std::min(lanes - lane, blocks.size() - made_block);
      const int64_t first = (blocks.begin + made_block) * block_numbers;
      const Interval wanted = overlap({first, first + some * block_numbers}, numbers);
      std::copy_n(made + lane * block_numbers + (wanted.begin - first), wanted.size(),
                  out + static_cast<int64_t>(made_item) * stride + (wanted.begin - numbers.begin));
      lane += some;
    }
  }
}

void mask(uint64_t source_key, float probability, std::span<const uint64_t> keys,
          const Interval& features, float* out, int64_t stride) {
  const auto limit = hn::Set(F32(), probability), kept = hn::Set(F32(), 1 / (1 - probability));
  by_blocks(source_key, keys, features, out, stride, [&](const Blocks& blocks, Lanes* v) HWY_ATTR {
    for (int i = 0; i < 4; ++i) {
      v[i] = hn::IfThenElseZero(hn::Ge(unit_lanes(blocks.word[i]), limit), kept);
    }
  });
}

void normal(uint64_t source_key, uint64_t item, const Interval& numbers, float* out) {
  const F32 d;
  by_blocks(source_key, {&item, 1}, numbers, out, 0, [&](const Blocks& blocks, Lanes* v) HWY_ATTR {
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

void dropout_mask(const RandomSource& source, float probability, std::span<const uint64_t> keys,
                  const Interval& features, float* out, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(mask)(key_of(source), probability, keys, features, out, stride);
}

void normal_numbers(const RandomSource& source, uint64_t item, const Interval& numbers,
                    float* out) {
  HWY_DYNAMIC_DISPATCH(normal)(key_of(source), item, numbers, out);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
