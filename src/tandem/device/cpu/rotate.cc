// Rotary positions.
#include <cmath>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/rotate.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

// All heads of one row, `step` from one to the next; turn = 1, or -1 for the other way.
template <class T>
HWY_INLINE void rotate_row(T* x, const float* rotation, int64_t heads, int64_t step, int64_t half,
                           float turn) {
  const auto sign = hn::Set(F32(), turn);
  x += step - 2 * half;
  for (int64_t head = 0; head < heads; ++head, x += step) {
    for_lanes(half, [&](int64_t i, auto p) HWY_ATTR {
      const auto cosine = load(rotation + i, p);
      const auto sine = hn::Mul(sign, load(rotation + half + i, p));
      const auto a = load(x + i, p), b = load(x + half + i, p);
      store(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), x + i, p);
      store(hn::MulAdd(a, sine, hn::Mul(b, cosine)), x + half + i, p);
    });
  }
}

// The same where pairs are neighbours: they are brought together as halves, turned, and put back.
template <class T>
HWY_INLINE void rotate_neighbours(T* x, const float* rotation, int64_t heads, int64_t step,
                                  int64_t half, float turn, T* halves) {
  x += step - 2 * half;
  for (int64_t head = 0; head < heads; ++head, x += step) {
    for (int64_t i = 0; i < half; ++i) halves[i] = x[2 * i], halves[half + i] = x[2 * i + 1];
    rotate_row(halves, rotation, 1, 2 * half, half, turn);
    for (int64_t i = 0; i < half; ++i) x[2 * i] = halves[i], x[2 * i + 1] = halves[half + i];
  }
}

template <class T>
HWY_INLINE void rotate_heads(const Rotate& op, int64_t row, const float* rotation, T* halves) {
  const int64_t heads = op.x.cols / op.head_dim, half = op.rotation.cols / 2;
  const float turn = op.backward ? -1.0f : 1.0f;
  T* x = op.x.row<T>(row);
  if (op.interleaved)
    rotate_neighbours(x, rotation, heads, op.head_dim, half, turn, halves);
  else
    rotate_row(x, rotation, heads, op.head_dim, half, turn);
}

void rotate_rows(const Rotate& op, Interval rows, float* scratch) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* rotation = op.rotation.row<float>(op.positions[static_cast<size_t>(row)]);
    if (op.x.dtype == DType::bf16)
      rotate_heads(op, row, rotation, reinterpret_cast<bfloat16*>(scratch));
    else
      rotate_heads(op, row, rotation, scratch);
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(rotate_rows);

void run(const RotationTable& op, int threads) {
  const int64_t half = op.table.cols / 2;
  parallel_ranges(threads, op.table.rows, [&](const Interval& positions) {
    for (int64_t position = positions.begin; position < positions.end; ++position) {
      float* row = op.table.row<float>(position);
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(position) * op.radians[static_cast<size_t>(i)];
        row[i] = static_cast<float>(op.scale * std::cos(angle));
        row[half + i] = static_cast<float>(op.scale * std::sin(angle));
      }
    }
  });
}

void run(const Rotate& op, int threads) {
  TANDEM_CHECK(op.rotation.cols % 2 == 0 && op.rotation.cols <= op.head_dim,
               "{} of {} columns rotated", op.rotation.cols, op.head_dim);
  parallel_ranges(useful_threads(threads, op.x.elements()), op.x.rows, [&](const Interval& rows) {
    static thread_local Scratch scratch;
    HWY_DYNAMIC_DISPATCH(rotate_rows)(op, rows, scratch.get<float>(op.rotation.cols));
  });
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
