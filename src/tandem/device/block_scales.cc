#include "tandem/device/block_scales.h"

#include <array>
#include <cmath>

namespace tandem {
namespace {

class ScaledStorage final : public Storage {
 public:
  ScaledStorage(const Tensor& numbers, const Tensor& factors)
      : Storage(numbers.data), scales_{numbers, factors} {}
  const BlockScales* scales() const override { return &scales_; }

 private:
  void last_release() override { delete this; }
  BlockScales scales_;
};

constexpr int bias = 7, fraction_bits = 3, least_exponent = 1 - bias;

float value_of(int bits) {
  const int exponent = (bits >> fraction_bits) & 15, fraction = bits & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(fraction), least_exponent - 3)
                              : std::ldexp(static_cast<float>(8 + fraction), exponent - bias - 3);
  return (bits & 0x7F) == 0x7F ? NAN : bits & 0x80 ? -magnitude : magnitude;
}

}  // namespace

Tensor with_scales(const Tensor& numbers, const Tensor& factors) {
  TANDEM_CHECK(eight_bits(numbers.dtype) && factors.dtype == DType::f32 &&
                   factors.rows == blocks_to_scale(numbers.rows) &&
                   factors.cols == blocks_to_scale(numbers.cols),
               "{} x {} factors of {} x {} {} numbers", factors.rows, factors.cols, numbers.rows,
               numbers.cols, dtype_name(numbers.dtype));
  Tensor scaled = numbers;
  scaled.storage = StorageRef(new ScaledStorage(numbers, factors));
  return scaled;
}

ScaledView scales_of(const Tensor& view) {
  const BlockScales* scales = view.storage.get()->scales();
  TANDEM_CHECK(scales, "{} x {} numbers without factors", view.rows, view.cols);
  const int64_t offset = view.data - scales->numbers.data;
  return {&scales->factors, offset / scales->numbers.stride, offset % scales->numbers.stride};
}

float fp8_to_float(uint8_t bits) {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> all{};
    for (int i = 0; i < 256; ++i) all[static_cast<size_t>(i)] = value_of(i);
    return all;
  }();
  return values[bits];
}

uint8_t float_to_fp8(float x) {
  if (std::isnan(x)) return 0x7F;
  const uint8_t sign = std::signbit(x) ? 0x80 : 0;
  const float magnitude = std::min(std::abs(x), largest_fp8);
  // Below 2^-6 numbers are as far apart as right above it. A fraction that is rounded up to the
  // next power of two carries into the exponent.
  const int exponent = std::max(std::ilogb(magnitude), least_exponent);  // of 0: the least int
  const auto units = static_cast<int>(std::lrint(std::ldexp(magnitude, fraction_bits - exponent)));
  return static_cast<uint8_t>(sign | (((exponent - least_exponent) << fraction_bits) + units));
}

}  // namespace tandem
