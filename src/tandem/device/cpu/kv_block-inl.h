// Blocks of keys or values as f32 in the cache, as they are or transposed. Included once for every
// target.
#if defined(TANDEM_DEVICE_CPU_KV_BLOCK_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#undef TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#else
#define TANDEM_DEVICE_CPU_KV_BLOCK_INL_H
#endif

#include <algorithm>

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

// Brings `count` numbers on their way into the second-level cache.
template <class T>
HWY_INLINE void prefetch(const T* from, int64_t count) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += line) __builtin_prefetch(from + i, 0, 2);
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
HWY_INLINE Lanes feature(const Words& words, int f, float) {
  return hn::BitCast(F32(), words.word[f]);
}
HWY_INLINE Lanes feature(const Words& words, int f, bfloat16) {
  const U32 d;
  const auto word = words.word[f / 2];
  const auto bits = f % 2 ? hn::And(word, hn::Set(d, 0xFFFF0000u)) : hn::ShiftLeft<16>(word);
  return hn::BitCast(F32(), bits);
}
#endif  // HWY_SCALAR

template <class T>
inline constexpr int features_at_once = 16 / sizeof(T);  // in four words

// The 64 rows of a block; those that are not there read as zeros. `zeros`: a row of them.
template <class T>
struct RowPointers {
  RowPointers(const BlockRows<T>& from, const T* zeros) {
    for (int64_t j = 0; j < kv_block_tokens; ++j) {
      row[j] = j < from.count ? from.data + j * from.stride : zeros;
    }
  }
  const T* row[kv_block_tokens];
};

// to[i][j] for all 64 positions j of the block.
template <class T>
HWY_INLINE void pack_transposed(const RowPointers<T>& from, int64_t cols, float* to) {
  const int64_t step = lane_count();
  for (int64_t j = 0; j < kv_block_tokens; j += step) {
    const T* const* rows = from.row + j;
    int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
    for (; i + features_at_once<T> <= cols; i += features_at_once<T>) {
      const auto words = transposed_words(
          [&](int r) HWY_ATTR { return reinterpret_cast<const uint32_t*>(rows[r] + i); });
#pragma GCC unroll 8
      for (int f = 0; f < features_at_once<T>; ++f) {
        hn::Store(feature(words, f, T()), F32(), to + (i + f) * kv_block_tokens + j);
      }
    }
#endif
    for (; i < cols; ++i) {
      for (int64_t r = 0; r < step; ++r) {
        store(load(rows[r] + i, First{1}), to + i * kv_block_tokens + j + r, First{1});
      }
    }
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
