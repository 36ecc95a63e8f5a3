#include "tandem/device/cpu/gemm.h"

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

class Products : public EveryWay {};
INSTANTIATE_TEST_SUITE_P(All, Products, ::testing::ValuesIn(ways),
                         [](const auto& tested) { return tested.param.name; });

void add_product(Reference& y, const Tensor& x, const Tensor& weight) {
  for (int64_t i = 0; i < x.rows; ++i)
    for (int64_t n = 0; n < weight.rows; ++n)
      for (int64_t k = 0; k < x.cols; ++k)
        y.add(i, n, double{element(x, i, k)} * element(weight, n, k));
}

struct Sizes {
  int64_t m, n, k;
};
std::ostream& operator<<(std::ostream& out, const Sizes& s) {
  return out << "m " << s.m << ", n " << s.n << ", k " << s.k;
}

Sizes draw_sizes(Random& random) {
  return {draw(random, 1, 70), draw(random, 1, 90), draw(random, 1, 150)};
}

// Slices of columns of something wider, as split heads and experts are.
Tensor random_slice(Random& random, int64_t rows, int64_t cols, DType dtype) {
  const int64_t before = draw(random, 0, 9), after = draw(random, 0, 9);
  return random_matrix(random, rows, before + cols + after, dtype)
      .slice_cols({before, before + cols});
}

TEST_P(Products, LinearOfRandomSizes) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Sizes s = draw_sizes(random);
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ", " << s);
    const Tensor x = random_slice(random, s.m, s.k, dtype());
    const Tensor weight = random_slice(random, s.n, s.k, dtype());
    const bool with_bias = draw(random, 0, 1), accumulate = draw(random, 0, 1);
    const Tensor bias = with_bias ? random_matrix(random, 1, s.n, dtype()) : Tensor{};
    const Tensor y = random_slice(random, s.m, s.n, draw(random, 0, 1) ? dtype() : DType::f32);
    Reference expected = accumulate ? Reference(y) : Reference(s.m, s.n);
    add_product(expected, x, weight);
    for (int64_t i = 0; with_bias && i < s.m; ++i)
      for (int64_t n = 0; n < s.n; ++n) expected.add(i, n, element(bias, 0, n));
    cpu::run(Linear{.x = x, .weight = weight, .bias = bias, .y = y, .accumulate = accumulate},
             static_cast<int>(draw(random, 1, 3)));
    ASSERT_NO_FATAL_FAILURE(expect_near(y, expected));
  }
}

// Heads side by side in x and y, one above the other in the weight, with gaps between them.
TEST_P(Products, HeadsOfRandomSizes) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const int64_t heads = draw(random, 1, 4), rows = draw(random, 1, 40),
                  cols = draw(random, 1, 50);
    const auto slices = [&](int64_t width) {
      const int64_t first = draw(random, 0, 3);
      return HeadSlices{first, width, first + width + draw(random, 0, 3)};
    };
    const bool transposed = draw(random, 0, 1);
    const HeadSlices of_weight = slices(draw(random, 1, 50));
    const HeadSlices of_x = slices(transposed ? of_weight.width : cols);
    const HeadSlices of_y = slices(transposed ? cols : of_weight.width);
    const Tensor x = random_matrix(random, rows, heads * of_x.step, dtype());
    const Tensor weight = random_matrix(random, heads * of_weight.step, cols, dtype());
    const Tensor y = random_matrix(random, rows, heads * of_y.step, dtype());
    const Tensor dweight = random_matrix(random, weight.rows, cols, DType::f32);
    Reference expected(y), gradient(dweight);
    for (int64_t h = 0; h < heads; ++h) {
      const Interval in = of_x.of(h), out = of_y.of(h), part = of_weight.of(h);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t n = 0; n < out.size(); ++n) {
          const size_t at = expected.at(i, out.begin + n);
          expected.value[at] = expected.magnitude[at] = 0;
          for (int64_t k = 0; k < in.size(); ++k) {
            const double w = transposed ? element(weight, part.begin + k, n)
                                        : element(weight, part.begin + n, k);
            expected.add(i, out.begin + n, element(x, i, in.begin + k) * w);
          }
        }
    }
    cpu::run(HeadLinear{x, weight, y, of_x, of_weight, of_y, transposed}, 2);
    ASSERT_NO_FATAL_FAILURE(expect_near(y, expected));
    // Of the weight whose rows are the columns of `narrow` and whose columns are those of `wide`.
    const Tensor &narrow = transposed ? x : y, &wide = transposed ? y : x;
    const HeadSlices &of_narrow = transposed ? of_x : of_y, &of_wide = transposed ? of_y : of_x;
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t n = 0; n < of_weight.width; ++n)
        for (int64_t k = 0; k < cols; ++k)
          for (int64_t i = 0; i < rows; ++i)
            gradient.add(of_weight.of(h).begin + n, k,
                         double{element(narrow, i, of_narrow.of(h).begin + n)} *
                             element(wide, i, of_wide.of(h).begin + k));
    cpu::run(HeadLinearWeightGradient{narrow, wide, dweight, of_narrow, of_wide, of_weight}, 2);
    ASSERT_NO_FATAL_FAILURE(expect_near(dweight, gradient));
  }
}

TEST_P(Products, InputGradientOfRandomSizes) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Sizes s = draw_sizes(random);
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ", " << s);
    const Tensor dy = random_slice(random, s.m, s.n, dtype());
    const Tensor weight = random_slice(random, s.n, s.k, dtype());
    const Tensor dx = random_slice(random, s.m, s.k, draw(random, 0, 1) ? dtype() : DType::f32);
    const bool accumulate = draw(random, 0, 1);
    Reference expected = accumulate ? Reference(dx) : Reference(s.m, s.k);
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t k = 0; k < s.k; ++k)
        for (int64_t n = 0; n < s.n; ++n)
          expected.add(i, k, double{element(dy, i, n)} * element(weight, n, k));
    cpu::run(LinearInputGradient{.dy = dy, .weight = weight, .dx = dx, .accumulate = accumulate},
             static_cast<int>(draw(random, 1, 3)));
    ASSERT_NO_FATAL_FAILURE(expect_near(dx, expected));
  }
}

TEST_P(Products, WeightGradientOfRandomSizes) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Random random(seed);
    const Sizes s = draw_sizes(random);
    SCOPED_TRACE(::testing::Message() << "seed " << seed << ", " << s);
    const Tensor dy = random_slice(random, s.m, s.n, dtype());
    const Tensor x = random_slice(random, s.m, s.k, dtype());
    const Tensor dweight = random_slice(random, s.n, s.k, DType::f32);
    const Tensor dbias = draw(random, 0, 1) ? random_matrix(random, 1, s.n, DType::f32) : Tensor{};
    Reference expected(dweight);
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t k = 0; k < s.k; ++k)
        for (int64_t i = 0; i < s.m; ++i)
          expected.add(n, k, double{element(dy, i, n)} * element(x, i, k));
    Reference expected_bias = dbias.data ? Reference(dbias) : Reference(1, s.n);
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t n = 0; n < s.n; ++n) expected_bias.add(0, n, element(dy, i, n));
    cpu::run(LinearWeightGradient{.dy = dy, .x = x, .dweight = dweight, .dbias = dbias},
             static_cast<int>(draw(random, 1, 3)));
    ASSERT_NO_FATAL_FAILURE(expect_near(dweight, expected));
    if (dbias.data) {
      ASSERT_NO_FATAL_FAILURE(expect_near(dbias, expected_bias));
    }
  }
}

Tensor linear(const Tensor& x, const Tensor& weight, int threads) {
  const Tensor y = make_matrix(x.rows, weight.rows, x.dtype);
  cpu::run(Linear{.x = x, .weight = weight, .y = y}, threads);
  return y;
}

// The promise on which bit-identical plans rest.
TEST_P(Products, RowsDoNotDependOnTheirCompany) {
  for (const int64_t k : {8, 77, 1024, 2048, 4096}) {
    SCOPED_TRACE(::testing::Message() << "k " << k);
    Random random(static_cast<uint64_t>(k));
    const int64_t rows = k <= 1024 ? 512 : 128, n = 80;
    const Tensor x = random_matrix(random, rows, k, dtype());
    const Tensor weight = random_matrix(random, n, k, dtype());
    const Tensor whole = linear(x, weight, 1);
    for (const int64_t batch : {1, 7, 16, 33, 100})
      for (int64_t begin = 0; begin + batch <= rows; begin += 97) {
        const Interval some{begin, begin + batch};
        ASSERT_NO_FATAL_FAILURE(
            expect_same_bits(linear(x.slice_rows(some), weight, 2), whole.slice_rows(some)))
            << "batch " << batch << " at " << begin;
      }
  }
}

// With many rows another matrix is packed.
TEST_P(Products, ManyRowsChangeNoBits) {
  for (const Sizes s : {Sizes{1024, 64, 96}, {1063, 77, 33}, {1100, 530, 65}, {1030, 40, 2100}}) {
    SCOPED_TRACE(::testing::Message() << s);
    Random random(static_cast<uint64_t>(s.m));
    const Tensor x = random_slice(random, s.m, s.k, dtype());
    const Tensor weight = random_slice(random, s.n, s.k, dtype());
    const Tensor bias = random_matrix(random, 1, s.n, dtype());
    for (const bool accumulate : {false, true})
      for (const DType out : {dtype(), DType::f32}) {
        const Tensor some = random_slice(random, s.m, s.n, out), all = copy_of(some);
        const auto multiply = [&](const Interval& rows, const Tensor& y, int threads) {
          cpu::run(Linear{.x = x.slice_rows(rows),
                          .weight = weight,
                          .bias = accumulate ? Tensor{} : bias,
                          .y = y.slice_rows(rows),
                          .accumulate = accumulate},
                   threads);
        };
        multiply({0, s.m}, all, 3);
        multiply({0, 5}, some, 1);
        multiply({5, 650}, some, 2);
        multiply({650, s.m}, some, 1);
        ASSERT_NO_FATAL_FAILURE(expect_same_bits(some, all));
      }
  }
}

TEST_P(Products, ColumnsDoNotDependOnTheirCompany) {
  for (const int64_t k : {8, 77, 1024, 4096}) {
    SCOPED_TRACE(::testing::Message() << "k " << k);
    Random random(static_cast<uint64_t>(k));
    const int64_t n = 160;
    for (const int64_t m : {1, 5, 33}) {
      const Tensor x = random_matrix(random, m, k, dtype());
      const Tensor weight = random_matrix(random, n, k, dtype());
      const Tensor whole = linear(x, weight, 1);
      for (const Interval some : {Interval{0, 1}, {0, 64}, {64, 160}, {3, 70}, {159, 160}})
        ASSERT_NO_FATAL_FAILURE(
            expect_same_bits(linear(x, weight.slice_rows(some), 1), whole.slice_cols(some)));
    }
  }
}

TEST_P(Products, ThreadsDoNotChangeBits) {
  for (const Sizes s : {Sizes{3, 200, 500}, {70, 200, 300}, {600, 100, 300}}) {
    SCOPED_TRACE(::testing::Message() << s);
    Random random(5);
    const Tensor x = random_matrix(random, s.m, s.k, dtype());
    const Tensor dy = random_matrix(random, s.m, s.n, dtype());
    const Tensor weight = random_matrix(random, s.n, s.k, dtype());
    const Tensor dweight = random_matrix(random, s.n, s.k, DType::f32);
    const Tensor dbias = random_matrix(random, 1, s.n, DType::f32);
    const Tensor y = linear(x, weight, 1), dx = make_matrix(s.m, s.k, dtype());
    const Tensor dweight1 = copy_of(dweight), dbias1 = copy_of(dbias);
    cpu::run(LinearInputGradient{.dy = dy, .weight = weight, .dx = dx}, 1);
    cpu::run(LinearWeightGradient{.dy = dy, .x = x, .dweight = dweight1, .dbias = dbias1}, 1);
    for (const int threads : {2, 5}) {
      const Tensor dxn = make_matrix(s.m, s.k, dtype());
      const Tensor dweightn = copy_of(dweight), dbiasn = copy_of(dbias);
      cpu::run(LinearInputGradient{.dy = dy, .weight = weight, .dx = dxn}, threads);
      cpu::run(LinearWeightGradient{.dy = dy, .x = x, .dweight = dweightn, .dbias = dbiasn},
               threads);
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(linear(x, weight, threads), y));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dxn, dx));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dweightn, dweight1));
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(dbiasn, dbias1));
    }
  }
}

TEST_P(Products, WriteNothingElse) {
  Random random(3);
  const Tensor x = random_matrix(random, 19, 40, dtype());
  const Tensor weight = random_matrix(random, 21, 40, dtype());
  const Tensor wide = random_matrix(random, 20, 40, dtype());
  const Tensor before = copy_of(wide);
  cpu::run(Linear{.x = x, .weight = weight, .y = wide.slice_cols({5, 26}).slice_rows({0, 19})}, 2);
  expect_same_bits(wide.slice_cols({0, 5}), before.slice_cols({0, 5}));
  expect_same_bits(wide.slice_cols({26, 40}), before.slice_cols({26, 40}));
  expect_same_bits(wide.slice_rows({19, 20}), before.slice_rows({19, 20}));
}

TEST_P(Products, NoRowsAreNoWork) {
  Random random(4);
  const Tensor weight = random_matrix(random, 21, 40, dtype());
  const Tensor dweight = random_matrix(random, 21, 40, DType::f32), before = copy_of(dweight);
  const Tensor x = make_matrix(0, 40, dtype()), y = make_matrix(0, 21, dtype());
  cpu::run(Linear{.x = x, .weight = weight, .y = y}, 2);
  cpu::run(LinearInputGradient{.dy = y, .weight = weight, .dx = x}, 2);
  cpu::run(LinearWeightGradient{.dy = y, .x = x, .dweight = dweight, .dbias = {}}, 2);
  expect_same_bits(dweight, before);
}

}  // namespace
}  // namespace tandem::testing
