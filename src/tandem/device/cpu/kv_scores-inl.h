// Scores of few queries against a block of keys that is read once, where it lies: what decoding
// does. Included once for every target.
#if defined(TANDEM_DEVICE_CPU_KV_SCORES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_DEVICE_CPU_KV_SCORES_INL_H
#undef TANDEM_DEVICE_CPU_KV_SCORES_INL_H
#else
#define TANDEM_DEVICE_CPU_KV_SCORES_INL_H
#endif

#include "tandem/device/cpu/kv_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
// scores[r][j] for the 64 keys: the chains of MulAdds of product() on the transposed keys, without
// storing those. ahead(j) is called for j = 0 .. 63, spread over the work: memory is kept busy, and
// not asked for more at once than it can have under way.
template <int Rows, class T, class Ahead>
HWY_INLINE void score_rows(const RowPointers<T>& keys, int64_t cols, Left q, float* scores,
                           const Ahead& ahead) {
  const F32 d;
  const int64_t step = lane_count();
  constexpr int features = features_at_once<T>;
  const int64_t calls = (2 * step * features + cols - 1) / cols;
  for (int64_t j = 0; j < kv_block_tokens; j += 2 * step) {
    const T* const* rows = keys.row + j;
    Lanes sum[Rows][2];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) sum[r][0] = sum[r][1] = hn::Zero(d);
    int64_t called = j;
    for (int64_t i = 0; i < cols; i += features) {
      const int64_t until = std::min(called + calls, j + 2 * step);
      for (; called < until; ++called) ahead(called);
      const auto word_of = [&](int r)
                               HWY_ATTR { return reinterpret_cast<const uint32_t*>(rows[r] + i); };
      const auto first = transposed_words(word_of);
      const auto second =
          transposed_words([&](int r) HWY_ATTR { return word_of(r + static_cast<int>(step)); });
#pragma GCC unroll 8
      for (int f = 0; f < features; ++f) {
        const auto a = feature(first, f, T()), b = feature(second, f, T());
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
          const auto value = hn::Set(d, q.data[r * q.row + i + f]);
          sum[r][0] = hn::MulAdd(value, a, sum[r][0]);
          sum[r][1] = hn::MulAdd(value, b, sum[r][1]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      hn::Store(sum[r][0], d, scores + r * kv_block_tokens + j);
      hn::Store(sum[r][1], d, scores + r * kv_block_tokens + j + step);
    }
  }
}
#endif

// Whether score_in_place() can do it.
template <class T>
HWY_INLINE bool few_queries(int64_t rows, int64_t cols) {
  return HWY_TARGET != HWY_SCALAR && rows <= tile_rows && cols % features_at_once<T> == 0;
}

template <class T, class Ahead>
HWY_INLINE void score_in_place([[maybe_unused]] const RowPointers<T>& keys,
                               [[maybe_unused]] int64_t cols, [[maybe_unused]] Left q, int64_t rows,
                               [[maybe_unused]] float* scores,
                               [[maybe_unused]] const Ahead& ahead) {
  static_assert(tile_rows == 6);
#if HWY_TARGET != HWY_SCALAR
  switch (rows) {
    case 1:
      return score_rows<1>(keys, cols, q, scores, ahead);
    case 2:
      return score_rows<2>(keys, cols, q, scores, ahead);
    case 3:
      return score_rows<3>(keys, cols, q, scores, ahead);
    case 4:
      return score_rows<4>(keys, cols, q, scores, ahead);
    case 5:
      return score_rows<5>(keys, cols, q, scores, ahead);
    case 6:
      return score_rows<6>(keys, cols, q, scores, ahead);
  }
#endif
  TANDEM_CHECK(false, "{} rows", rows);
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
