#include <cmath>
#include <limits>

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

constexpr GradientCoding codings[] = {GradientCoding::top_k, GradientCoding::int8,
                                      GradientCoding::top_k_int8};

struct Coded {
  Tensor gradient, residual, said;
};

Coded code(const Tensor& gradient, const Tensor& residual, GradientCoding coding, int threads) {
  Coded c{gradient, residual, make_matrix(gradient.rows, gradient.cols, DType::f32)};
  const Tensor words =
      make_matrix(gradient.rows, coded_row_words(coding, gradient.cols), DType::i32);
  cpu::run(EncodeGradient{gradient, residual, words, coding}, threads);
  cpu::run(DecodeGradient{words, c.said, coding}, threads);
  return c;
}

double at(const Tensor& t, int64_t i, int64_t j) { return static_cast<double>(element(t, i, j)); }

class GradientCodings : public ::testing::TestWithParam<GradientCoding> {};
INSTANTIATE_TEST_SUITE_P(All, GradientCodings, ::testing::ValuesIn(codings),
                         [](const auto& coding) {
                           return std::string(keeps_top(coding.param) ? "top" : "all") +
                                  (has_scale(coding.param) ? "_int8" : "_f32");
                         });

// What is said and what is left are all there was; what is said are the largest, closely enough.
TEST_P(GradientCodings, SayTheLargestAndKeepTheRest) {
  const GradientCoding coding = GetParam();
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const int64_t rows = draw(random, 1, 4), cols = draw(random, 1, seed % 4 ? 300 : 3000);
    const Tensor gradient = random_matrix(random, rows, cols, DType::f32, draw(random, 0, 3));
    const Tensor residual = random_matrix(random, rows, cols, DType::f32, draw(random, 0, 3));
    // Equal numbers at the border, zeros, and a wide range.
    if (seed % 5 == 1)
      for (int64_t j = 0; j < cols; ++j) {
        set_element(gradient, 0, j, static_cast<float>(j % 3) - 1);
        set_element(residual, 0, j, 0);
      }
    if (seed % 5 == 2)
      for (int64_t j = 0; j < cols; ++j)
        set_element(gradient, 0, j,
                    std::ldexp(element(gradient, 0, j), static_cast<int>(j % 60) - 30));
    if (seed % 5 == 3)  // almost nothing
      for (const Tensor& t : {gradient, residual})
        for (int64_t j = 0; j < cols; ++j) set_element(t, 0, j, j % 100 == 50 ? 1.0f : 0.0f);
    const Reference before(gradient), rest(residual);
    const Coded c = code(gradient, residual, coding, 2);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t first = 0; first < cols; first += coding_block) {
        const int64_t size = std::min(coding_block, cols - first);
        const int64_t wanted = coded_numbers(coding, size);
        std::vector<double> sums, magnitudes;
        for (int64_t j = first; j < first + size; ++j)
          sums.push_back(static_cast<double>(static_cast<float>(before(i, j) + rest(i, j))));
        for (const double v : sums) magnitudes.push_back(std::abs(v));
        std::ranges::sort(magnitudes, std::greater<>());
        const double border = magnitudes[wanted - 1];
        const double step = has_scale(coding) ? magnitudes[0] / 127 : 0;
        int64_t said = 0;
        for (int64_t j = first; j < first + size; ++j) {
          const double v = sums[j - first], now = at(c.said, i, j), left = at(residual, i, j);
          ASSERT_NEAR(now + left, v, 1e-6 * magnitudes[0]) << i << ", " << j;
          if (std::abs(v) > border) {
            ASSERT_LE(std::abs(v - now), step / 2 * 1.001 + 1e-35);
          }
          if (std::abs(v) < border) {
            ASSERT_EQ(now, 0) << i << ", " << j;
          }
          said += now != 0;
        }
        ASSERT_LE(said, wanted);
      }
  }
}

TEST_P(GradientCodings, LeaveNoTraceOfThreads) {
  Random random(3);
  const Tensor gradient = random_matrix(random, 37, 2500, DType::f32, 3);
  const Tensor one = zero_matrix(37, 2500, DType::f32), more = zero_matrix(37, 2500, DType::f32);
  const Coded a = code(gradient, one, GetParam(), 1), b = code(gradient, more, GetParam(), 5);
  expect_same_bits(a.said, b.said);
  expect_same_bits(one, more);
}

// Sent again and again, a constant gradient arrives in full.
TEST_P(GradientCodings, ForgetNothing) {
  Random random(5);
  const int64_t cols = 1500, times = 200;
  const Tensor gradient = random_matrix(random, 1, cols, DType::f32);
  const Tensor residual = zero_matrix(1, cols, DType::f32);
  std::vector<double> sums(cols);
  for (int64_t t = 0; t < times; ++t) {
    const Coded c = code(gradient, residual, GetParam(), 1);
    for (int64_t j = 0; j < cols; ++j) sums[j] += at(c.said, 0, j);
  }
  for (int64_t j = 0; j < cols; ++j)
    ASSERT_NEAR(sums[j] / static_cast<double>(times), at(gradient, 0, j), 0.2);
}

TEST_P(GradientCodings, PassOnWhatIsNoNumber) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Random random(6);
    const Tensor gradient = random_matrix(random, 1, 200, DType::f32);
    set_element(gradient, 0, 150, bad);
    const Coded c = code(gradient, zero_matrix(1, 200, DType::f32), GetParam(), 1);
    EXPECT_FALSE(std::isfinite(element(c.said, 0, 150)));
  }
}

}  // namespace
}  // namespace tandem::testing
