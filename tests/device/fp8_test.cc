#include "tandem/device/cpu/fp8.h"

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

Tensor quantised(const Tensor& from) {
  const Tensor to =
      with_scales(make_matrix(from.rows, from.cols, DType::fp8),
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
      set_element(to, i, j, fp8_to_float(weight.row<uint8_t>(i)[j]) * scales.factor(i, j));
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

}  // namespace
}  // namespace tandem::testing
