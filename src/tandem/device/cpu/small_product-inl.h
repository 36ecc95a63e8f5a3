// Products of small matrices that lie packed in the cache. Every element is one chain of MulAdds in
// order of the inner index, however many rows and columns are computed together, so that bits do
// not tell how work was cut. Included once for every target.
#if defined(TANDEM_DEVICE_CPU_SMALL_PRODUCT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TANDEM_DEVICE_CPU_SMALL_PRODUCT_INL_H
#undef TANDEM_DEVICE_CPU_SMALL_PRODUCT_INL_H
#else
#define TANDEM_DEVICE_CPU_SMALL_PRODUCT_INL_H
#endif

#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {

// Rows that share every load of b, and vectors of columns beside each other: as many sums as there
// are registers for.
constexpr int64_t tile_rows = 6;
#if HWY_TARGET <= HWY_AVX3
constexpr int tile_vectors = 4;
#else
constexpr int tile_vectors = 2;
#endif

// Element (i, k) of the left matrix is data[i * row + k * step].
struct Left {
  const float* data;
  int64_t row;
  int64_t step;
  Left below(int64_t rows) const { return {data + rows * row, row, step}; }
  Left after(int64_t steps) const { return {data + steps * step, row, step}; }
};
// The right matrix, packed or in place; and the result. Columns come in multiples of row_padding.
template <class T>
struct Right {
  const T* data;
  int64_t row;
};
struct Packed {
  float* data;
  int64_t row;
};
constexpr int64_t row_padding = 16;
inline int64_t padded(int64_t cols) { return (cols + row_padding - 1) / row_padding * row_padding; }

template <int Rows, int Vectors, class T>
HWY_INLINE void product_tile(Left a, Right<T> b, Packed c, int64_t depth, bool add) {
  const F32 d;
  const int64_t step = lane_count();
  Lanes sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      sum[i][v] = add ? hn::Load(d, c.data + i * c.row + v * step) : hn::Zero(d);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const float* left = a.data + k * a.step;
    const T* right = b.data + k * b.row;
    Lanes column[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) column[v] = load(right + v * step, Whole());
#pragma GCC unroll 8
    for (int i = 0; i < Rows; ++i) {
      const auto value = hn::Set(d, left[i * a.row]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[i][v] = hn::MulAdd(value, column[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < Rows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) hn::Store(sum[i][v], d, c.data + i * c.row + v * step);
  }
}

template <int Rows, class T>
HWY_INLINE void product_rows(Left a, Right<T> b, Packed c, int64_t depth, int64_t cols, bool add) {
  const int64_t step = lane_count(), wide = tile_vectors * step;
  for (; cols >= wide; cols -= wide, b.data += wide, c.data += wide) {
    product_tile<Rows, tile_vectors>(a, b, c, depth, add);
  }
  for (; cols >= step; cols -= step, b.data += step, c.data += step) {
    product_tile<Rows, 1>(a, b, c, depth, add);
  }
}

// c[rows, cols] = a[rows, depth] b[depth, cols], or c += with add. cols is a multiple of
// row_padding.
template <class T>
HWY_NOINLINE void product(Left a, Right<T> b, Packed c, int64_t rows, int64_t depth, int64_t cols,
                          bool add) {
  static_assert(tile_rows == 6);
  for (; rows >= tile_rows; rows -= tile_rows) {
    product_rows<6>(a, b, c, depth, cols, add);
    a = a.below(tile_rows);
    c.data += tile_rows * c.row;
  }
  switch (rows) {
    case 5:
      return product_rows<5>(a, b, c, depth, cols, add);
    case 4:
      return product_rows<4>(a, b, c, depth, cols, add);
    case 3:
      return product_rows<3>(a, b, c, depth, cols, add);
    case 2:
      return product_rows<2>(a, b, c, depth, cols, add);
    case 1:
      return product_rows<1>(a, b, c, depth, cols, add);
    default:
      return;
  }
}

}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
