#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

TEST(AdamW, FollowsThePaper) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const int64_t rows = draw(random, 1, 4), cols = draw(random, 1, 100);
    AdamW op{.master = random_matrix(random, rows, cols, DType::f32, 2),
             .first_moment = zero_matrix(rows, cols, DType::f32),
             .second_moment = zero_matrix(rows, cols, DType::f32),
             .gradient = random_matrix(random, rows, cols, DType::f32),
             .learning_rate = 0.01f,
             .gradient_scale = 0.5f};
    op.weight = seed % 2 ? make_matrix(rows, cols, DType::bf16) : op.master;
    Reference weight(op.master), first(rows, cols), second(rows, cols);
    for (op.step = 1; op.step < 6; ++op.step) {
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          const double g = 0.5 * at(op.gradient, i, j);
          double &m = first.value[first.at(i, j)], &v = second.value[second.at(i, j)];
          double& w = weight.value[weight.at(i, j)];
          m = 0.9 * m + 0.1 * g;
          v = 0.95 * v + 0.05 * g * g;
          const double n = static_cast<double>(op.step);
          const double step =
              m / (1 - std::pow(0.9, n)) / (std::sqrt(v / (1 - std::pow(0.95, n))) + 1e-8);
          w = w * (1 - 0.01 * 0.1) - 0.01 * step;
        }
      }
      cpu::run(op, 2);
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        ASSERT_NEAR(at(op.master, i, j), weight(i, j), 2e-6);
        ASSERT_NEAR(at(op.weight, i, j), weight(i, j),
                    seed % 2 ? 0x1p-8 * std::abs(weight(i, j)) + 1e-6 : 2e-6);
      }
    }
  }
}

TEST(SquaredSum, AddsManySmallNumbersExactlyEnough) {
  Random random(1);
  const Tensor out = make_matrix(1, 1, DType::f32);
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{1, 100003}, {7, 333}, {1, 1}, {0, 5}}) {
    const Tensor x = random_matrix(random, rows, cols, DType::f32, 1);
    double expected = 0;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) expected += at(x, i, j) * at(x, i, j);
    }
    cpu::run(SquaredSum{x, out}, 1);
    const float one = element(out, 0, 0);
    EXPECT_NEAR(static_cast<double>(one), expected, 1e-6 * expected);
    cpu::run(SquaredSum{x, out}, 5);
    EXPECT_EQ(element(out, 0, 0), one);
  }
}

}  // namespace
}  // namespace tandem::testing
