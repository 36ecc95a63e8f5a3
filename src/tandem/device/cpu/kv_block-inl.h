// Blocks of keys or values as f32 in the cache, as they are or transposed. Included once for every
// target.
#if defined(TANDEM_DEVICE_CPU_KV_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#undef TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#else
#define TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#endif

#include <algorithm>

#include "hwy/cache_control.h"
#include "tandem/device/cpu/small_product-inl.h"
#include "tandem/device/operations.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {

// The first `count` positions of a block, one head: row j is at data + j * stride.
template <class T>
struct BlockRows {
  const T* data;
  int64_t stride;
  int64_t count;
};

// `rows` of t from column `col` on.
template <class T>
HWY_INLINE BlockRows<T> block_rows(const Tensor& t, Interval rows, int64_t col) {
  return {t.row<T>(rows.begin) + col, t.stride, rows.size()};
}

// Brings one row of the next block on its way, if there is such a row.
template <class T>
HWY_INLINE void prefetch(const BlockRows<T>& next, int64_t j, int64_t cols) {
  constexpr int64_t line = 64 / sizeof(T);
  if (j >= next.count) return;
  for (int64_t i = 0; i < cols; i += line) hwy::Prefetch(next.data + j * next.stride + i);
}

// to[j][i], columns padded with zeros.
template <class T>
HWY_INLINE void pack(const BlockRows<T>& from, int64_t cols, float* to) {
  const int64_t width = padded(cols);
  for (int64_t j = 0; j < from.count; ++j) {
    float* row = to + j * width;
    std::fill(row + cols, row + width, 0.0f);
    const T* source = from.data + j * from.stride;
    for_lanes(cols, [&](int64_t i, auto p) HWY_ATTR { store(load(source + i, p), row + i, p); });
  }
}

#if HWY_TARGET != HWY_SCALAR
// Four words each of as many rows as there are lanes, as four vectors of one word of every row.
struct Words {
  hn::Vec<U32> word[4];
};
#if HWY_TARGET <= HWY_AVX3
template <class Rows>
HWY_INLINE hn::Vec<U32> gather_words(const Rows& row) {
  const hn::Full128<uint32_t> d4;
  const hn::Full256<uint32_t> d8;
  const auto low = hn::Combine(d8, hn::LoadU(d4, row(4)), hn::LoadU(d4, row(0)));
  const auto high = hn::Combine(d8, hn::LoadU(d4, row(12)), hn::LoadU(d4, row(8)));
  return hn::Combine(U32(), high, low);
}
#else
static_assert(HWY_TARGET == HWY_AVX2, "eight lanes");
template <class Rows>
HWY_INLINE hn::Vec<U32> gather_words(const Rows& row) {
  const hn::Full128<uint32_t> d4;
  return hn::Combine(U32(), hn::LoadU(d4, row(4)), hn::LoadU(d4, row(0)));
}
#endif

template <class Rows>
HWY_INLINE Words transposed_words(const Rows& row) {
  const U32 d;
  const U64 d64;
  const auto a = gather_words([&](int j) HWY_ATTR { return row(j); });
  const auto b = gather_words([&](int j) HWY_ATTR { return row(j + 1); });
  const auto c = gather_words([&](int j) HWY_ATTR { return row(j + 2); });
  const auto e = gather_words([&](int j) HWY_ATTR { return row(j + 3); });
  const auto ab01 = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
  const auto ab23 = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
  const auto ce01 = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
  const auto ce23 = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
  return {{hn::BitCast(d, hn::InterleaveLower(d64, ab01, ce01)),
           hn::BitCast(d, hn::InterleaveUpper(d64, ab01, ce01)),
           hn::BitCast(d, hn::InterleaveLower(d64, ab23, ce23)),
           hn::BitCast(d, hn::InterleaveUpper(d64, ab23, ce23))}};
}

// Word w of every row holds feature w in f32, features 2w and 2w + 1 in bf16.
HWY_INLINE void store_words(const Words& words, float* to, float) {
  for (int64_t w = 0; w < 4; ++w) {
    hn::Store(hn::BitCast(F32(), words.word[w]), F32(), to + w * kv_block_tokens);
  }
}
HWY_INLINE void store_words(const Words& words, float* to, bfloat16) {
  const U32 d;
  for (int64_t w = 0; w < 4; ++w) {
    const auto first = hn::ShiftLeft<16>(words.word[w]);
    const auto second = hn::And(words.word[w], hn::Set(d, 0xFFFF0000u));
    hn::Store(hn::BitCast(F32(), first), F32(), to + 2 * w * kv_block_tokens);
    hn::Store(hn::BitCast(F32(), second), F32(), to + (2 * w + 1) * kv_block_tokens);
  }
}

#endif  // HWY_SCALAR

// to[i][j] for all 64 positions j of the block, those beyond from.count zero. `zeros`: cols zeros.
// ahead(j) is called once for every j, spread over the work: memory is kept busy, and not asked for
// more at once than it can have under way.
template <class T, class Ahead>
HWY_INLINE void pack_transposed(const BlockRows<T>& from, int64_t cols, const T* zeros, float* to,
                                [[maybe_unused]] const Ahead& ahead) {
  const int64_t step = lane_count();
  int64_t tiled = 0;
  for (int64_t j = 0; j < kv_block_tokens; j += step) {
    const T* rows[hn::MaxLanes(F32())];
    for (int64_t i = 0; i < step; ++i) {
      rows[i] = j + i < from.count ? from.data + (j + i) * from.stride : zeros;
    }
#if HWY_TARGET != HWY_SCALAR
    constexpr int64_t features = 16 / sizeof(T);  // in four words
    tiled = cols / features * features;
    const int64_t calls = tiled == 0 ? 0 : (step * features + tiled - 1) / tiled;
    int64_t called = j;
    for (int64_t i = 0; i < tiled; i += features) {
      for (int64_t r = 0; r < calls && called < j + step; ++r) ahead(called++);
      const auto words = transposed_words(
          [&](int r) HWY_ATTR { return reinterpret_cast<const uint32_t*>(rows[r] + i); });
      store_words(words, to + i * kv_block_tokens + j, T());
    }
#endif
    for (int64_t i = tiled; i < cols; ++i) {
      for (int64_t r = 0; r < step; ++r) {
        store(load(rows[r] + i, First{1}), to + i * kv_block_tokens + j + r, First{1});
      }
    }
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
