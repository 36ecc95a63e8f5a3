// Weights in 8 bits, with a factor for every block of 128 x 128 numbers, as DeepSeek-V3's: FP8
// (e4m3: 4 bits of exponent, 3 of fraction, no infinities; OCP 8-bit floating point, 2023), or int8
// from -127 to 127, kept as what it is above -128, since processors multiply bytes without a sign
// by bytes with one.
#pragma once

#include "tandem/device/tensor.h"

namespace tandem {

inline constexpr int64_t scale_block = 128;
inline constexpr int64_t blocks_to_scale(int64_t n) { return (n + scale_block - 1) / scale_block; }

struct BlockScales {
  Tensor numbers;  // the whole matrix
  Tensor factors;  // f32 [blocks of rows, blocks of columns]
};

// The numbers, of 8 bits and whole, with their factors: every view of the result finds its own.
Tensor with_scales(const Tensor& numbers, const Tensor& factors);

// Where a view of such a tensor begins in the whole matrix, and its factors.
struct ScaledView {
  const Tensor* factors = nullptr;
  int64_t row = 0, col = 0;
  float factor(int64_t r, int64_t c) const {
    return factors->row<float>((row + r) / scale_block)[(col + c) / scale_block];
  }
};
ScaledView scales_of(const Tensor& view);

float fp8_to_float(uint8_t bits);
// To nearest, ties to even; what is too large becomes 448, the largest number.
uint8_t float_to_fp8(float x);
inline constexpr float largest_fp8 = 448;

inline constexpr int int8_zero = 128, largest_int8 = 127;
// A number as its dtype has it, without its factor.
inline float eight_bits_to_float(uint8_t bits, DType dtype) {
  return dtype == DType::fp8 ? fp8_to_float(bits) : static_cast<float>(bits - int8_zero);
}

}  // namespace tandem
