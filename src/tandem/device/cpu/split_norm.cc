// RMSNorm over heads of several ranks, and clipping.
#include <cmath>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {
namespace {

// Of one row of all parts, in their order.
float sum_down(const Tensor& parts, int64_t row) {
  float sum = 0;
  for (int64_t part = 0; part < parts.rows; ++part) sum += parts.row<float>(part)[row];
  return sum;
}

// body(row, room for as many numbers as a row has) on some threads.
template <class Body>
void for_rows(const Tensor& x, int threads, const Body& body) {
  parallel_ranges(useful_threads(threads, x.elements()), x.rows, [&](const Interval& rows) {
    static thread_local Scratch scratch;
    float* const room = scratch.get<float>(x.cols);
    for (int64_t row = rows.begin; row < rows.end; ++row) body(row, room);
  });
}

// to = weight times factor x.
void weighted(const Tensor& weight, float factor, const float* x, Numbers to, float* room) {
  scale(factor, numbers(x), numbers(room), weight.cols);
  multiply(numbers(weight, 0), room, to, weight.cols);
}

}  // namespace

void run(const HeadSquares& op, int threads) {
  for_rows(op.x, threads, [&](int64_t row, float*) {
    for (int64_t i = 0; i < op.out.rows; ++i) {
      const float* head = op.x.row<float>(row) + op.heads[static_cast<size_t>(i)] * op.head_dim;
      op.out.row<float>(i)[row] = dot(numbers(head), head, op.head_dim);
    }
  });
}

void run(const SplitNorm& op, int threads) {
  const auto count = static_cast<float>(op.squares.rows * op.head_dim);
  for_rows(op.x, threads, [&](int64_t row, float* room) {
    const float scale = 1 / std::sqrt(sum_down(op.squares, row) / count + op.epsilon);
    weighted(op.weight, scale, op.x.row<float>(row), numbers(op.y, row), room);
    if (!op.scale.empty()) *op.scale.row<float>(row) = scale;
  });
}

void run(const SplitNormProduct& op, int threads) {
  for_rows(op.x, threads, [&](int64_t row, float* room) {
    weighted(op.weight, *op.scale.row<float>(row), op.x.row<float>(row), numbers(room), room);
    op.out.row<float>(0)[row] = dot(numbers(op.dy, row), room, op.x.cols);
  });
}

void run(const SplitNormBackward& op, int threads) {
  const int64_t heads = std::ssize(op.shares), head_dim = op.x.cols / heads;
  for_rows(op.x, threads, [&](int64_t row, float* room) {
    const float scaled = *op.scale.row<float>(row);
    const float mean = sum_down(op.products, row) / static_cast<float>(op.width);
    float* dx = op.dx.row<float>(row);
    weighted(op.weight, scaled, op.dy.row<float>(row), numbers(dx), room);
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t first = head * head_dim;
      add_scaled(-scaled * scaled * mean * op.shares[static_cast<size_t>(head)],
                 numbers(op.x, row, first), dx + first, head_dim);
    }
  });
  static thread_local Scratch scratch;
  float* const normal = scratch.get<float>(op.x.cols);
  for (int64_t row = 0; row < op.x.rows; ++row) {
    scale(*op.scale.row<float>(row), numbers(op.x, row), numbers(normal), op.x.cols);
    add_product(numbers(op.dy, row), normal, op.dweight.row<float>(0), op.x.cols);
  }
}

void run(const Clip& op, int threads) {
  for_rows(op.x, threads, [&](int64_t row, float* room) {
    convert(numbers(op.x, row), numbers(room), op.x.cols);
    for (int64_t i = 0; i < op.x.cols; ++i) room[i] = std::clamp(room[i], -op.limit, op.limit);
    convert(numbers(room), numbers(op.x, row), op.x.cols);
  });
}

void run(const ClipBackward& op, int threads) {
  for_rows(op.x, threads, [&](int64_t row, float* room) {
    convert(numbers(op.x, row), numbers(room), op.x.cols);
    for (int64_t i = 0; i < op.x.cols; ++i) room[i] = std::abs(room[i]) <= op.limit ? 1.0f : 0.0f;
    multiply(numbers(op.dx, row), room, numbers(op.dx, row), op.x.cols);
  });
}

}  // namespace tandem::cpu
