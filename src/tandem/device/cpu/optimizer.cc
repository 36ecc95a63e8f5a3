// The optimizer's step and the norm of the gradient.
#include <cmath>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/optimizer.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

template <class T>
HWY_INLINE void update_row(const AdamW& op, int64_t row, T* weight) {
  const F32 d;
  const double step = static_cast<double>(op.step);
  const double first_bias = 1 - std::pow(static_cast<double>(op.beta1), step);
  const double second_bias = 1 - std::pow(static_cast<double>(op.beta2), step);
  const auto scaled = hn::Set(d, op.gradient_scale), beta1 = hn::Set(d, op.beta1),
             beta2 = hn::Set(d, op.beta2), rest1 = hn::Set(d, 1 - op.beta1),
             rest2 = hn::Set(d, 1 - op.beta2), epsilon = hn::Set(d, op.epsilon);
  const auto decay = hn::Set(d, 1 - op.learning_rate * op.weight_decay);
  const auto rate =
      hn::Set(d, static_cast<float>(static_cast<double>(op.learning_rate) / first_bias));
  const auto unbias = hn::Set(d, static_cast<float>(1 / std::sqrt(second_bias)));
  const float* gradient = op.gradient.row<float>(row);
  float *first = op.first_moment.row<float>(row), *second = op.second_moment.row<float>(row);
  float* master = op.master.row<float>(row);
  for_lanes(op.master.cols, [&](int64_t i, auto p) HWY_ATTR {
    const auto g = hn::Mul(scaled, load(gradient + i, p));
    const auto m = hn::MulAdd(beta1, load(first + i, p), hn::Mul(rest1, g));
    const auto v = hn::MulAdd(beta2, load(second + i, p), hn::Mul(rest2, hn::Mul(g, g)));
    const auto size = hn::MulAdd(hn::Sqrt(v), unbias, epsilon);
    const auto value = hn::NegMulAdd(rate, hn::Div(m, size), hn::Mul(decay, load(master + i, p)));
    store(m, first + i, p);
    store(v, second + i, p);
    store(value, master + i, p);
    store(value, weight + i, p);
  });
}

void update(const AdamW& op, Interval rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    if (op.weight.dtype == DType::bf16) {
      update_row(op, row, op.weight.row<bfloat16>(row));
    } else {
      update_row(op, row, op.weight.row<float>(row));
    }
  }
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(update);

void run(const AdamW& op, int threads) {
  TANDEM_CHECK(op.master.dtype == DType::f32 && op.gradient.dtype == DType::f32 &&
                   op.master.rows == op.weight.rows && op.master.cols == op.weight.cols,
               "adamw on {} x {} {}", op.weight.rows, op.weight.cols, dtype_name(op.master.dtype));
  parallel_ranges(useful_threads(threads, op.master.elements()), op.master.rows,
                  [&](const Interval& rows) {
                    HWY_DYNAMIC_DISPATCH(update)
                    (op, rows);
                  });
}

// Pieces of fixed size, added in order, so that the number of threads leaves no trace.
void run(const SquaredSum& op, int threads) {
  constexpr int64_t piece = 1 << 15;
  const int64_t pieces_a_row = (op.x.cols + piece - 1) / piece;
  std::vector<double> sums(static_cast<size_t>(op.x.rows * pieces_a_row));
  parallel_ranges(useful_threads(threads, op.x.elements()), op.x.rows * pieces_a_row,
                  [&](const Interval& range) {
                    for (int64_t i = range.begin; i < range.end; ++i) {
                      const int64_t first = i % pieces_a_row * piece;
                      const float* x = op.x.row<float>(i / pieces_a_row) + first;
                      sums[static_cast<size_t>(i)] =
                          squared_sum(x, std::min(piece, op.x.cols - first));
                    }
                  });
  double total = 0;
  for (const double sum : sums) total += sum;
  op.out.row<float>(0)[0] = static_cast<float>(total);
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
