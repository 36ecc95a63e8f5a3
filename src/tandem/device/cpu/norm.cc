// RMSNorm and LayerNorm, forward and backward.
#include <cmath>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/norm.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

struct Statistics {
  float mean = 0, scale = 0;
};

HWY_INLINE Statistics statistics_of(const Norm& op, const float* x, int64_t n) {
  Statistics s;
  if (op.kind == NormKind::layer) {
    auto sum = hn::Zero(F32());
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR { sum = hn::Add(sum, load(x + i, p)); });
    s.mean = sum_lanes(sum) / static_cast<float>(n);
  }
  const auto mean = hn::Set(F32(), s.mean);
  auto squares = hn::Zero(F32());
  for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
    const auto centred = keep(hn::Sub(load(x + i, p), mean), p, 0);
    squares = hn::MulAdd(centred, centred, squares);
  });
  s.scale = 1 / std::sqrt(sum_lanes(squares) / static_cast<float>(n) + op.epsilon);
  return s;
}

// body(row, piece of `width` columns)
template <class Body>
HWY_INLINE void for_pieces(int64_t cols, int64_t width, Interval rows, const Body& body) {
  for (int64_t row = rows.begin; row < rows.end; ++row)
    for (int64_t piece = 0; piece * width < cols; ++piece) body(row, piece);
}

template <class T>
HWY_INLINE void norm_rows(const Norm& op, Interval rows, const T* weight, const T* bias) {
  const int64_t n = op.weight.cols;
  for_pieces(op.x.cols, n, rows, [&](int64_t row, int64_t piece) HWY_ATTR {
    const float* x = op.x.row<float>(row) + piece * n;
    T* y = op.y.row<T>(row) + piece * n;
    const Statistics s = statistics_of(op, x, n);
    const auto mean = hn::Set(F32(), s.mean), scaled = hn::Set(F32(), s.scale);
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      const auto normal = hn::Mul(hn::Sub(load(x + i, p), mean), scaled);
      const auto w = load(weight + i, p);
      store(bias ? hn::MulAdd(normal, w, load(bias + i, p)) : hn::Mul(normal, w), y + i, p);
    });
    if (!op.statistics.empty()) {
      op.statistics.row<float>(row)[2 * piece] = s.mean;
      op.statistics.row<float>(row)[2 * piece + 1] = s.scale;
    }
  });
}

// dx += scale (g - mean(g) - xhat mean(g xhat)) with g = dy weight; RMSNorm has no mean(g).
template <class T>
HWY_INLINE void input_gradient(const NormBackward& op, Interval rows, const T* weight) {
  const int64_t n = op.weight.cols;
  for_pieces(op.x.cols, n, rows, [&](int64_t row, int64_t piece) HWY_ATTR {
    const float* x = op.x.row<float>(row) + piece * n;
    const float* statistics = op.statistics.row<float>(row) + 2 * piece;
    const float* dy = op.dy.row<float>(row) + piece * n;
    float* dx = op.dx.row<float>(row) + piece * n;
    const auto mean = hn::Set(F32(), statistics[0]), scaled = hn::Set(F32(), statistics[1]);
    auto sum = hn::Zero(F32()), product = hn::Zero(F32());
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      const auto g = hn::Mul(load(dy + i, p), load(weight + i, p));
      sum = hn::Add(sum, g);
      product = hn::MulAdd(g, hn::Mul(hn::Sub(load(x + i, p), mean), scaled), product);
    });
    const float count = static_cast<float>(n);
    const float mean_g = op.kind == NormKind::layer ? sum_lanes(sum) / count : 0;
    const auto shift = hn::Set(F32(), mean_g), along = hn::Set(F32(), sum_lanes(product) / count);
    for_lanes(n, [&](int64_t i, auto p) HWY_ATTR {
      const auto g = hn::Mul(load(dy + i, p), load(weight + i, p));
      const auto normal = hn::Mul(hn::Sub(load(x + i, p), mean), scaled);
      const auto change = hn::NegMulAdd(normal, along, hn::Sub(g, shift));
      store(hn::MulAdd(scaled, change, load(dx + i, p)), dx + i, p);
    });
  });
}

// Columns `cols` of dweight and dbias: the rows in order, and a row's pieces.
HWY_INLINE void weight_gradient(const NormBackward& op, Interval cols) {
  float* dweight = op.dweight.row<float>(0) + cols.begin;
  float* dbias = op.dbias.empty() ? nullptr : op.dbias.row<float>(0) + cols.begin;
  const int64_t n = op.weight.cols;
  for_pieces(op.x.cols, n, op.weight_rows, [&](int64_t row, int64_t piece) HWY_ATTR {
    const float* x = op.x.row<float>(row) + piece * n + cols.begin;
    const float* statistics = op.statistics.row<float>(row) + 2 * piece;
    const float* dy = op.dy.row<float>(row) + piece * n + cols.begin;
    const auto mean = hn::Set(F32(), statistics[0]), scaled = hn::Set(F32(), statistics[1]);
    for_lanes(cols.size(), [&](int64_t i, auto p) HWY_ATTR {
      const auto g = load(dy + i, p);
      const auto normal = hn::Mul(hn::Sub(load(x + i, p), mean), scaled);
      store(hn::MulAdd(g, normal, load(dweight + i, p)), dweight + i, p);
      if (dbias) store(hn::Add(load(dbias + i, p), g), dbias + i, p);
    });
  });
}

void norm(const Norm& op, Interval rows) {
  if (op.y.dtype == DType::bf16) {
    norm_rows(op, rows, op.weight.row<bfloat16>(0),
              op.bias.empty() ? nullptr : op.bias.row<bfloat16>(0));
  } else {
    norm_rows(op, rows, op.weight.row<float>(0), op.bias.empty() ? nullptr : op.bias.row<float>(0));
  }
}

void norm_input_gradient(const NormBackward& op, Interval rows) {
  if (op.weight.dtype == DType::bf16) {
    input_gradient(op, rows, op.weight.row<bfloat16>(0));
  } else {
    input_gradient(op, rows, op.weight.row<float>(0));
  }
}

void norm_weight_gradient(const NormBackward& op, Interval cols) { weight_gradient(op, cols); }

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(norm);
HWY_EXPORT(norm_input_gradient);
HWY_EXPORT(norm_weight_gradient);

void run(const Norm& op, int threads) {
  TANDEM_CHECK(op.x.dtype == DType::f32 && op.weight.dtype == op.y.dtype &&
                   op.x.cols == op.y.cols && op.x.cols % op.weight.cols == 0,
               "norm of {} into {}", dtype_name(op.x.dtype), dtype_name(op.y.dtype));
  parallel_ranges(useful_threads(threads, op.x.elements()), op.x.rows, [&](const Interval& rows) {
    HWY_DYNAMIC_DISPATCH(norm)(op, rows);
  });
}

void run(const NormBackward& op, int threads) {
  TANDEM_CHECK(op.dx.dtype == DType::f32 && op.dy.dtype == DType::f32, "norm gradient {} {}",
               dtype_name(op.dx.dtype), dtype_name(op.dy.dtype));
  const int useful = useful_threads(threads, op.x.elements());
  if (!op.dweight.empty() && !op.weight_rows.empty()) {
    constexpr int64_t grain = 64;  // whole cache lines to a thread
    const int64_t cols = op.weight.cols;
    parallel_ranges(useful, (cols + grain - 1) / grain, [&](const Interval& range) {
      const Interval columns{range.begin * grain, std::min(cols, range.end * grain)};
      HWY_DYNAMIC_DISPATCH(norm_weight_gradient)(op, columns);
    });
  }
  parallel_ranges(useful, op.x.rows, [&](const Interval& rows) {
    HWY_DYNAMIC_DISPATCH(norm_input_gradient)(op, rows);
  });
}

}  // namespace tandem::cpu
#endif  // HWY_ONCE
