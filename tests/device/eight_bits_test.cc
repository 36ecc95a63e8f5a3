#include "tandem/device/cpu/eight_bits.h"

#include <cmath>

#include "device/matrices.h"
#include "tandem/device/block_scales.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

// Some numbers of the format, from its definition.
TEST(Fp8, HasItsNumbers) {
  EXPECT_EQ(fp8_to_float(0x00), 0.0f);
  EXPECT_EQ(fp8_to_float(0x38), 1.0f);
  EXPECT_EQ(fp8_to_float(0xB8), -1.0f);
  EXPECT_EQ(fp8_to_float(0x7E), 448.0f);
  EXPECT_EQ(fp8_to_float(0x08), std::ldexp(1.0f, -6));
  EXPECT_EQ(fp8_to_float(0x01), std::ldexp(1.0f, -9));
  EXPECT_EQ(fp8_to_float(0x07), 7 * std::ldexp(1.0f, -9));
  EXPECT_TRUE(std::isnan(fp8_to_float(0x7F)));
}

TEST(Fp8, EveryNumberComesBack) {
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7F) == 0x7F) continue;
    EXPECT_EQ(float_to_fp8(fp8_to_float(static_cast<uint8_t>(bits))), bits);
  }
}

// Halfway between neighbours the even one is taken; on either side of it the nearer one.
TEST(Fp8, RoundsToNearest) {
  for (int bits = 0; bits < 0x7E; ++bits) {
    const float low = fp8_to_float(static_cast<uint8_t>(bits));
    const float high = fp8_to_float(static_cast<uint8_t>(bits + 1));
    const float middle = (low + high) / 2;
    EXPECT_EQ(float_to_fp8(middle), bits % 2 == 0 ? bits : bits + 1);
    EXPECT_EQ(float_to_fp8(std::nextafter(middle, 0.0f)), bits);
    EXPECT_EQ(float_to_fp8(std::nextafter(middle, 1000.0f)), bits + 1);
  }
  EXPECT_EQ(float_to_fp8(1e30f), 0x7E);
  EXPECT_EQ(float_to_fp8(-1e30f), 0xFE);
  EXPECT_EQ(float_to_fp8(NAN), 0x7F);
}

Tensor quantised(const Tensor& from, DType dtype = DType::fp8) {
  const Tensor to =
      with_scales(make_matrix(from.rows, from.cols, dtype),
                  make_matrix(blocks_to_scale(from.rows), blocks_to_scale(from.cols), DType::f32));
  cpu::run(Quantise{from, to}, 2);
  return to;
}

// What a weight is once it is quantised, as f32.
Tensor dequantised(const Tensor& weight, DType dtype) {
  const ScaledView scales = scales_of(weight);
  const Tensor to = make_matrix(weight.rows, weight.cols, dtype);
  for (int64_t i = 0; i < to.rows; ++i)
    for (int64_t j = 0; j < to.cols; ++j)
      set_element(
          to, i, j,
          eight_bits_to_float(weight.row<uint8_t>(i)[j], weight.dtype) * scales.factor(i, j));
  return to;
}

TEST(Fp8, BlocksAreScaledToTheLargestNumber) {
  Random random(1);
  const Tensor from = random_matrix(random, 200, 300, DType::f32);
  for (int64_t i = 0; i < 128; ++i)  // one block much larger, one all zeros
    for (int64_t j = 0; j < 128; ++j) {
      set_element(from, i, j, 1e6f * element(from, i, j));
      set_element(from, i, 128 + j, 0);
    }
  const Tensor back = dequantised(quantised(from), DType::f32);
  for (int64_t i = 0; i < from.rows; ++i)
    for (int64_t j = 0; j < from.cols; ++j) {
      const float scale = i < 128 && j < 128 ? 1e6f : 1;
      // Half a unit in the fourth binary place, or half the least step of a block whose largest
      // number is below 6 scales.
      const float bound = std::max(std::abs(element(from, i, j)) / 16, scale * 6 / 448 / 1024);
      ASSERT_LE(std::abs(element(back, i, j) - element(from, i, j)), bound) << i << ", " << j;
    }
}

class Fp8Products : public EveryWay {};
// Rows that meet fp8 weights are bf16.
std::vector<Way> ways_of_bf16() {
  std::vector<Way> some;
  for (const Way& way : ways)
    if (way.dtype == DType::bf16) some.push_back(way);
  return some;
}
INSTANTIATE_TEST_SUITE_P(All, Fp8Products, ::testing::ValuesIn(ways_of_bf16()),
                         [](const auto& tested) { return tested.param.name; });

// To the bit what the same numbers give as bf16, through any view.
TEST_P(Fp8Products, AreThoseOfTheirNumbersInBf16) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const Tensor whole =
        quantised(random_matrix(random, 200 + seed * 7, 150 + seed * 20, DType::f32));
    const Interval rows{draw(random, 0, 90), draw(random, 91, whole.rows)};
    const Interval cols{draw(random, 0, 70), draw(random, 71, whole.cols)};
    const Tensor weight = whole.slice_rows(rows).slice_cols(cols);
    const Tensor plain = dequantised(weight, DType::bf16);
    const Tensor x = random_matrix(random, draw(random, 1, 40), weight.cols, DType::bf16);
    const Tensor y = make_matrix(x.rows, weight.rows, DType::f32), expected = copy_of(y);
    cpu::run(Linear{.x = x, .weight = weight, .y = y}, 2);
    cpu::run(Linear{.x = x, .weight = plain, .y = expected}, 1);
    for (int64_t i = 0; i < y.rows; ++i)
      ASSERT_EQ(0, std::memcmp(y.row_bytes(i), expected.row_bytes(i), y.cols * sizeof(float)));
  }
}

TEST(Int8, IsTheNearestNumberOfItsBlock) {
  Random random(2);
  const Tensor from = random_matrix(random, 140, 260, DType::f32);
  const Tensor to = quantised(from, DType::int8), back = dequantised(to, DType::f32);
  const ScaledView scales = scales_of(to);
  for (int64_t i = 0; i < from.rows; ++i)
    for (int64_t j = 0; j < from.cols; ++j) {
      ASSERT_LE(std::abs(element(back, i, j) - element(from, i, j)), 0.5001f * scales.factor(i, j));
      ASSERT_GE(to.row<uint8_t>(i)[j], 1);
    }
}

// What a product with int8 weights is by definition: rows of x in blocks of 128, each scaled to its
// largest number and rounded; whole numbers are summed up exactly, blocks in order.
float int8_product(const Tensor& x, int64_t row, const Tensor& weight, int64_t out) {
  const ScaledView scales = scales_of(weight);
  float sum = 0;
  for (int64_t first = 0; first < x.cols; first += scale_block) {
    const int64_t end = std::min(first + scale_block, x.cols);
    float largest = 0;
    for (int64_t j = first; j < end; ++j) largest = std::max(largest, std::abs(element(x, row, j)));
    const float inverse = largest > 0 ? 127.0f / largest : 0;
    int32_t exact = 0;
    for (int64_t j = first; j < end; ++j)
      exact += static_cast<int32_t>(std::lrint(element(x, row, j) * inverse)) *
               (weight.row<uint8_t>(out)[j] - int8_zero);
    sum = std::fma(static_cast<float>(exact), scales.factor(out, first) * (largest / 127.0f), sum);
  }
  return sum;
}

class Int8Products : public EveryWay {};
INSTANTIATE_TEST_SUITE_P(All, Int8Products, ::testing::ValuesIn(ways_of_bf16()),
                         [](const auto& tested) { return tested.param.name; });

// To the bit, for one row or many, whole matrices or some of their rows, on one thread or several.
TEST_P(Int8Products, AreThoseOfTheirDefinition) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    Random random(seed);
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    const int64_t depth = std::vector<int64_t>{128, 320, 70, 513, 1024, 200, 4500, 64}[seed % 8];
    const Tensor whole =
        quantised(random_matrix(random, 150 + seed * 7, depth, DType::f32), DType::int8);
    const Tensor weight = whole.slice_rows({draw(random, 0, 90), draw(random, 91, whole.rows)});
    const int64_t rows = std::vector<int64_t>{1, 3, 16, 17, 40}[seed % 5];
    const Tensor x = random_matrix(random, rows, depth, DType::bf16);
    const Tensor y = make_matrix(rows, weight.rows, DType::f32);
    cpu::run(Linear{.x = x, .weight = weight, .y = y}, 1 + static_cast<int>(seed % 3));
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < weight.rows; ++j)
        ASSERT_EQ(element(y, i, j), int8_product(x, i, weight, j)) << i << ", " << j;
  }
}

TEST_P(Int8Products, OfWhatIsNoNumberAreNone) {
  Random random(3);
  const Tensor weight = quantised(random_matrix(random, 40, 300, DType::f32), DType::int8);
  const Tensor x = random_matrix(random, 2, 300, DType::bf16);
  const Tensor y = make_matrix(2, 40, DType::f32);
  for (const float wrong : {NAN, INFINITY}) {
    for (const int64_t column : {5, 280}) {
      const Tensor some = copy_of(x);
      set_element(some, 1, column, wrong);
      cpu::run(Linear{.x = some, .weight = weight, .y = y}, 1);
      EXPECT_TRUE(std::isfinite(element(y, 0, 7)));
      EXPECT_FALSE(std::isfinite(element(y, 1, 7))) << wrong << " in column " << column;
    }
  }
}

}  // namespace
}  // namespace tandem::testing
