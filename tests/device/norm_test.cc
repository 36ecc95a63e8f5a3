#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

struct NormCase {
  NormCase(Random& random, NormKind kind, DType dtype, int64_t rows, int64_t cols, bool with_bias) {
    op = {kind,
          1e-5f,
          random_matrix(random, rows, cols, DType::f32, 3),
          random_matrix(random, 1, cols, dtype),
          {},
          make_matrix(rows, cols, dtype, 2),
          make_matrix(rows, 2, DType::f32)};
    if (with_bias) op.bias = random_matrix(random, 1, cols, dtype);
  }
  // Mean and 1 / deviation.
  std::pair<double, double> statistics(int64_t row) const {
    const int64_t n = op.x.cols;
    double mean = 0, square = 0;
    if (op.kind == NormKind::layer) {
      for (int64_t j = 0; j < n; ++j) mean += at(op.x, row, j) / static_cast<double>(n);
    }
    for (int64_t j = 0; j < n; ++j) {
      square += std::pow(at(op.x, row, j) - mean, 2) / static_cast<double>(n);
    }
    return {mean, 1 / std::sqrt(square + static_cast<double>(op.epsilon))};
  }
  Norm op;
};

TEST(Norm, AgreesWithReference) {
  for (uint64_t seed = 0; seed < 32; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const NormCase c(random, seed % 2 ? NormKind::rms : NormKind::layer,
                     seed % 4 < 2 ? DType::f32 : DType::bf16, draw(random, 1, 9),
                     draw(random, 1, 300), seed % 3 == 0);
    cpu::run(c.op, 2);
    for (int64_t i = 0; i < c.op.x.rows; ++i) {
      const auto [mean, scale] = c.statistics(i);
      EXPECT_NEAR(at(c.op.statistics, i, 0), mean, 1e-5);
      EXPECT_NEAR(at(c.op.statistics, i, 1), scale, 1e-5 * scale);
      for (int64_t j = 0; j < c.op.x.cols; ++j) {
        const double expected = (at(c.op.x, i, j) - mean) * scale * at(c.op.weight, 0, j) +
                                (c.op.bias.empty() ? 0 : at(c.op.bias, 0, j));
        const double relative = c.op.y.dtype == DType::bf16 ? 0x1p-8 : 2e-6;
        ASSERT_NEAR(at(c.op.y, i, j), expected, relative * std::abs(expected) + 2e-5);
      }
    }
  }
}

// A row alone and any number of threads give the bits of the whole.
TEST(Norm, RowsStandAlone) {
  Random random(1);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const NormCase c(random, NormKind::layer, dtype, 70, 1003, true);
    cpu::run(c.op, 1);
    Norm threaded = c.op;
    threaded.y = make_matrix(70, 1003, dtype);
    cpu::run(threaded, 5);
    expect_same_bits(c.op.y, threaded.y);
    for (int64_t i = 0; i < 70; ++i) {
      Norm one = c.op;
      one.x = c.op.x.slice_rows({i, i + 1});
      one.y = make_matrix(1, 1003, dtype);
      one.statistics = {};
      cpu::run(one, 1);
      expect_same_bits(one.y, c.op.y.slice_rows({i, i + 1}));
    }
  }
}

// The loss is sum(dy * y); its derivatives by central differences of the double reference.
TEST(NormBackward, AgreesWithDifferences) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const NormKind kind = seed % 2 ? NormKind::rms : NormKind::layer;
    const DType dtype = seed % 4 < 2 ? DType::f32 : DType::bf16;
    const int64_t rows = draw(random, 1, 6), cols = draw(random, 2, 70);
    const NormCase c(random, kind, dtype, rows, cols, true);
    cpu::run(c.op, 1);
    const Interval weight_rows{rows / 3, rows};
    const NormBackward op{kind,
                          c.op.x,
                          c.op.weight,
                          c.op.statistics,
                          random_matrix(random, rows, cols, DType::f32),
                          random_matrix(random, rows, cols, DType::f32),
                          random_matrix(random, 1, cols, DType::f32),
                          random_matrix(random, 1, cols, DType::f32),
                          weight_rows};
    const Tensor dx = copy_of(op.dx), dweight = copy_of(op.dweight), dbias = copy_of(op.dbias);
    cpu::run(op, 3);
    const auto loss = [&](int64_t i) {
      const auto [mean, scale] = c.statistics(i);
      double sum = 0;
      for (int64_t j = 0; j < cols; ++j) {
        sum += at(op.dy, i, j) * (at(op.x, i, j) - mean) * scale * at(op.weight, 0, j);
      }
      return sum;
    };
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        float& x = c.op.x.row<float>(i)[j];
        const float kept = x, step = 1e-2f;
        x = kept + step;
        const double upper_x = static_cast<double>(x), upper = loss(i);
        x = kept - step;
        const double difference = (upper - loss(i)) / (upper_x - static_cast<double>(x));
        x = kept;
        ASSERT_NEAR(at(op.dx, i, j) - at(dx, i, j), difference, 3e-2 + 1e-2 * std::abs(difference));
      }
    }
    for (int64_t j = 0; j < cols; ++j) {
      double weight = at(dweight, 0, j), bias = at(dbias, 0, j);
      for (int64_t i = weight_rows.begin; i < weight_rows.end; ++i) {
        const auto [mean, scale] = c.statistics(i);
        weight += at(op.dy, i, j) * (at(op.x, i, j) - mean) * scale;
        bias += at(op.dy, i, j);
      }
      ASSERT_NEAR(at(op.dweight, 0, j), weight, 1e-4);
      ASSERT_NEAR(at(op.dbias, 0, j), bias, 1e-4);
    }
  }
}

}  // namespace
}  // namespace tandem::testing
