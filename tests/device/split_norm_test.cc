#include <cmath>
#include <numeric>

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

constexpr int64_t heads = 5, head_dim = 7, rows = 4, width = heads * head_dim;
constexpr float epsilon = 1e-3f;

std::vector<int32_t> first(int64_t count) {
  std::vector<int32_t> numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// What several ranks make of it together, each with the heads of one of `parts`.
struct Split {
  Split(const Tensor& x_, const Tensor& weight_, DType dtype, std::vector<Interval> parts_)
      : x(x_),
        weight(weight_),
        parts(std::move(parts_)),
        squares(make_matrix(heads, rows, DType::f32)),
        y(make_matrix(rows, width, dtype)),
        scale(make_matrix(rows, 1, DType::f32)) {
    for (const Interval& part : parts)
      cpu::run(HeadSquares{.x = x.slice_cols(columns(part)),
                           .out = squares.slice_rows(part),
                           .heads = first(part.size()),
                           .head_dim = head_dim},
               1);
    for (const Interval& part : parts)
      cpu::run(SplitNorm{.x = x.slice_cols(columns(part)),
                         .weight = weight.slice_cols(columns(part)),
                         .squares = squares,
                         .y = y.slice_cols(columns(part)),
                         .scale = scale,
                         .head_dim = head_dim,
                         .epsilon = epsilon},
               2);
  }
  static Interval columns(const Interval& part) {
    return {part.begin * head_dim, part.end * head_dim};
  }
  Tensor x, weight;
  std::vector<Interval> parts;
  Tensor squares, y, scale;
};

TEST(SplitNorm, IsTheNormOfAllHeadsToTheBitHoweverTheyAreDivided) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Random random(3);
    const Tensor x = random_matrix(random, rows, width, DType::f32);
    const Tensor weight = random_matrix(random, 1, width, dtype);
    const Split whole(x, weight, dtype, {{0, heads}});
    for (int64_t row = 0; row < rows; ++row) {
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) squares += at(x, row, i) * at(x, row, i);
      const double scale = 1 / std::sqrt(squares / width + static_cast<double>(epsilon));
      for (int64_t i = 0; i < width; ++i) {
        const double expected = at(x, row, i) * scale * at(weight, 0, i);
        EXPECT_NEAR(at(whole.y, row, i), expected,
                    (dtype == DType::f32 ? 1e-5 : 1e-2) * (1 + std::abs(expected)));
      }
    }
    const Split divided(x, weight, dtype, {{0, 2}, {2, 3}, {3, heads}});
    expect_same_bits(divided.y, whole.y);
    expect_same_bits(divided.scale, whole.scale);
  }
}

double product(const Tensor& x, const Tensor& weight, const Tensor& dy, int64_t row) {
  double squares = 0, sum = 0;
  for (int64_t i = 0; i < width; ++i) squares += at(x, row, i) * at(x, row, i);
  for (int64_t i = 0; i < width; ++i) sum += at(x, row, i) * at(weight, 0, i) * at(dy, row, i);
  return sum / std::sqrt(squares / width + static_cast<double>(epsilon));
}

// Head 2 is on both ranks, each of which brings its part of the gradient of its result.
TEST(SplitNorm, GradientsOfAllRanksAddUpToDifferences) {
  Random random(4);
  const Tensor x = random_matrix(random, rows, width, DType::f32);
  const Tensor weight = random_matrix(random, 1, width, DType::f32);
  const Tensor dy = random_matrix(random, rows, width, DType::f32);
  const Split whole(x, weight, DType::f32, {{0, heads}});
  const std::vector<Interval> parts{{0, 3}, {2, heads}};
  const std::vector<std::vector<float>> shares{{1, 1, 0.25f}, {0.75f, 1, 1}};
  const Tensor products = make_matrix(2, rows, DType::f32);
  const Tensor dweight = zero_matrix(1, width, DType::f32);
  std::vector<Tensor> dys, sums;
  for (size_t rank = 0; rank < 2; ++rank) {
    const Interval columns = Split::columns(parts[rank]);
    dys.push_back(make_matrix(rows, columns.size(), DType::f32));
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < columns.size(); ++i) {
        const int64_t head = (columns.begin + i) / head_dim;
        const float part = head != 2 ? 1 : rank == 0 ? 0.4f : 0.6f;
        dys[rank].row<float>(row)[i] = part * dy.row<float>(row)[columns.begin + i];
      }
    cpu::run(SplitNormProduct{.x = x.slice_cols(columns),
                              .weight = weight.slice_cols(columns),
                              .scale = whole.scale,
                              .dy = dys[rank],
                              .out = products.slice_rows(
                                  {static_cast<int64_t>(rank), static_cast<int64_t>(rank) + 1})},
             1);
  }
  const Tensor dx = zero_matrix(rows, width, DType::f32);
  for (size_t rank = 0; rank < 2; ++rank) {
    const Interval columns = Split::columns(parts[rank]);
    const Tensor own = make_matrix(rows, columns.size(), DType::f32);
    cpu::run(SplitNormBackward{.x = x.slice_cols(columns),
                               .weight = weight.slice_cols(columns),
                               .scale = whole.scale,
                               .dy = dys[rank],
                               .products = products,
                               .dx = own,
                               .dweight = dweight.slice_cols(columns),
                               .shares = shares[rank],
                               .width = width},
             2);
    cpu::run(AddRows{.from = own, .to = dx.slice_cols(columns)}, 1);
  }
  const auto difference = [&](float& value, const auto& of) {
    const float kept = value;
    value = kept + 1e-2f;
    const double above = of(), high = static_cast<double>(value);
    value = kept - 1e-2f;
    const double slope = (above - of()) / (high - static_cast<double>(value));
    value = kept;
    return slope;
  };
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < width; ++i)
      EXPECT_NEAR(at(dx, row, i),
                  difference(x.row<float>(row)[i], [&] { return product(x, weight, dy, row); }),
                  1e-3);
  for (int64_t i = 0; i < width; ++i)
    EXPECT_NEAR(at(dweight, 0, i),
                difference(weight.row<float>(0)[i],
                           [&] {
                             double sum = 0;
                             for (int64_t row = 0; row < rows; ++row)
                               sum += product(x, weight, dy, row);
                             return sum;
                           }),
                1e-3);
}

TEST(Clip, BoundsAndLetsGradientsThroughWithin) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor before = zero_matrix(1, 4, dtype), x = zero_matrix(1, 4, dtype);
    const Tensor dx = zero_matrix(1, 4, DType::f32);
    const std::vector<float> values{-2, -0.5f, 0.75f, 3};
    for (int64_t i = 0; i < 4; ++i) {
      for (const Tensor* t : {&before, &x}) set_element(*t, 0, i, values[static_cast<size_t>(i)]);
      set_element(dx, 0, i, 5);
    }
    cpu::run(Clip{.x = x, .limit = 1}, 1);
    cpu::run(ClipBackward{.x = before, .dx = dx, .limit = 1}, 1);
    const std::vector<double> bounded{-1, -0.5, 0.75, 1}, through{0, 5, 5, 0};
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(at(x, 0, i), bounded[static_cast<size_t>(i)]);
      EXPECT_EQ(at(dx, 0, i), through[static_cast<size_t>(i)]);
    }
  }
}

}  // namespace
}  // namespace tandem::testing
