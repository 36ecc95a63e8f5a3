// Operations on rows as they are: copies, sums, the residual stream, initial values.
#include <cmath>
#include <cstring>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/random_lanes.h"
#include "tandem/device/cpu/row_math.h"

namespace tandem::cpu {
namespace {

// Pieces of a row that stay in the first-level cache while several inputs pass over them.
constexpr int64_t piece = 1024;

int64_t row_at(std::span<const int32_t> index, int64_t i) {
  return index.empty() ? i : index[static_cast<size_t>(i)];
}

// body(columns) on pieces of [0, cols), for every piece.
template <class Body>
void for_pieces(int64_t cols, const Body& body) {
  for (int64_t begin = 0; begin < cols; begin += piece) {
    body(Interval{begin, std::min(cols, begin + piece)});
  }
}

void same_shape(const Tensor& a, const Tensor& b) {
  TANDEM_CHECK(a.rows == b.rows && a.cols == b.cols, "{} x {} and {} x {}", a.rows, a.cols, b.rows,
               b.cols);
}

}  // namespace

void run(const CopyRows& op, int threads) {
  const int64_t cols = op.from.cols;
  TANDEM_CHECK(cols == op.to.cols, "copy {} columns to {}", cols, op.to.cols);
  const bool plain = op.from.dtype == op.to.dtype;  // i32 as well
  TANDEM_CHECK(plain || (op.from.dtype != DType::i32 && op.to.dtype != DType::i32), "copy {} to {}",
               dtype_name(op.from.dtype), dtype_name(op.to.dtype));
  const int64_t count = op.count();
  if (count == 0 || (op.from.data == op.to.data && op.from_rows.empty() && op.to_rows.empty())) {
    return;
  }
  parallel_ranges(useful_threads(threads, count * cols), count, [&](const Interval& range) {
    for (int64_t i = range.begin; i < range.end; ++i) {
      convert(numbers(op.from, row_at(op.from_rows, i)), numbers(op.to, row_at(op.to_rows, i)),
              cols);
    }
  });
}

// A row may be added to many times: threads share the columns, each takes every i in order.
void run(const AddRows& op, int threads) {
  const int64_t cols = op.from.cols;
  TANDEM_CHECK(cols == op.to.cols && op.to.dtype == DType::f32, "add {} columns to {} of {}", cols,
               op.to.cols, dtype_name(op.to.dtype));
  const int64_t count = op.count();
  constexpr int64_t grain = 64;  // whole cache lines to a thread
  parallel_ranges(useful_threads(threads, count * cols), (cols + grain - 1) / grain,
                  [&](const Interval& range) {
                    const int64_t begin = range.begin * grain;
                    const int64_t end = std::min(cols, range.end * grain);
                    for (int64_t i = 0; i < count; ++i) {
                      add(numbers(op.from, row_at(op.from_rows, i), begin),
                          op.to.row<float>(row_at(op.to_rows, i)) + begin, end - begin);
                    }
                  });
}

void run(const Sum& op, int threads) {
  const int64_t cols = op.out.cols;
  for (const Tensor& input : op.inputs) same_shape(input, op.out);
  parallel_ranges(useful_threads(threads, op.out.elements()), op.out.rows, [&](const Interval& r) {
    alignas(64) float sum[piece] = {};
    for (int64_t row = r.begin; row < r.end; ++row) {
      for_pieces(cols, [&](const Interval& c) {
        if (op.inputs.empty()) std::memset(sum, 0, sizeof(sum));
        for (size_t j = 0; j < op.inputs.size(); ++j) {
          const Numbers input = numbers(op.inputs[j], row, c.begin);
          j == 0 ? convert(input, numbers(sum), c.size()) : add(input, sum, c.size());
        }
        convert(numbers(sum), numbers(op.out, row, c.begin), c.size());
      });
    }
  });
}

void run(const AddResidual& op, int threads) {
  same_shape(op.y, op.residual);
  const int64_t cols = op.y.cols;
  parallel_ranges(useful_threads(threads, op.y.elements()), op.y.rows, [&](const Interval& range) {
    std::vector<float> mask(op.dropout.active() ? static_cast<size_t>(cols) : 0);
    for (int64_t row = range.begin; row < range.end; ++row) {
      if (op.dropout.active()) {
        dropout_mask(op.dropout, {row, row + 1}, {0, cols}, mask.data(), cols);
        add_product(numbers(op.y, row), mask.data(), op.residual.row<float>(row), cols);
      } else {
        add(numbers(op.y, row), op.residual.row<float>(row), cols);
      }
    }
  });
}

void run(const ResidualBackward& op, int threads) {
  same_shape(op.dy, op.dresidual);
  const int64_t cols = op.dy.cols;
  parallel_ranges(
      useful_threads(threads, op.dy.elements()), op.dy.rows, [&](const Interval& range) {
        std::vector<float> mask(op.dropout.active() ? static_cast<size_t>(cols) : 0);
        for (int64_t row = range.begin; row < range.end; ++row) {
          if (op.dropout.active()) {
            dropout_mask(op.dropout, {row, row + 1}, {0, cols}, mask.data(), cols);
            multiply(numbers(op.dresidual, row), mask.data(), numbers(op.dy, row), cols);
          } else {
            convert(numbers(op.dresidual, row), numbers(op.dy, row), cols);
          }
        }
      });
}

// For a number a row: gates.
void run(const Sigmoid& op, int) {
  for (int64_t row = 0; row < op.x.rows; ++row)
    for (int64_t i = 0; i < op.x.cols; ++i)
      op.y.row<float>(row)[i] = 1 / (1 + std::exp(-op.x.row<float>(row)[i]));
}

void run(const SigmoidBackward& op, int) {
  for (int64_t row = 0; row < op.y.rows; ++row)
    for (int64_t i = 0; i < op.y.cols; ++i) {
      const float y = op.y.row<float>(row)[i];
      op.dx.row<float>(row)[i] = op.dy.row<float>(row)[i] * y * (1 - y);
    }
}

void run(const Zero& op, int threads) {
  if (op.x.empty()) return;
  const size_t bytes = static_cast<size_t>(op.x.cols * size_of(op.x.dtype));
  parallel_ranges(useful_threads(threads, op.x.elements()), op.x.rows, [&](const Interval& range) {
    if (op.x.contiguous()) {
      std::memset(op.x.row_bytes(range.begin), 0, bytes * static_cast<size_t>(range.size()));
      return;
    }
    for (int64_t row = range.begin; row < range.end; ++row) {
      std::memset(op.x.row_bytes(row), 0, bytes);
    }
  });
}

void run(const FillNormal& op, int threads) {
  const RandomSource source(op.seed, RandomStream::initial_weights);
  parallel_ranges(useful_threads(threads, op.x.elements()), op.x.rows, [&](const Interval& range) {
    alignas(64) float values[piece];
    for (int64_t row = range.begin; row < range.end; ++row) {
      for_pieces(op.x.cols, [&](const Interval& c) {
        const int64_t first = (op.first_row + row) * op.full_cols + op.first_col + c.begin;
        normal_numbers(source, op.item, {first, first + c.size()}, values);
        scale(op.deviation, numbers(values), numbers(op.x, row, c.begin), c.size());
      });
    }
  });
}

}  // namespace tandem::cpu
