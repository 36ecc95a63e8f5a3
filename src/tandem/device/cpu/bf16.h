// bf16 and f32, one element or one run of elements at a time.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "tandem/device/tensor.h"

namespace tandem::cpu {

inline float to_float(bfloat16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// To nearest, ties to even; a NaN stays one.
inline bfloat16 to_bf16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40;
  return {static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? quiet : rounded)};
}

inline void to_floats(const bfloat16* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = to_float(from[i]);
}
inline void to_bf16s(const float* from, bfloat16* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
}

// A run of either dtype as f32, and back.
inline void read_floats(const std::byte* from, DType dtype, float* to, int64_t count) {
  if (dtype == DType::bf16) return to_floats(reinterpret_cast<const bfloat16*>(from), to, count);
  const auto* floats = reinterpret_cast<const float*>(from);
  for (int64_t i = 0; i < count; ++i) to[i] = floats[i];
}
inline void write_floats(const float* from, std::byte* to, DType dtype, int64_t count) {
  if (dtype == DType::bf16) return to_bf16s(from, reinterpret_cast<bfloat16*>(to), count);
  auto* floats = reinterpret_cast<float*>(to);
  for (int64_t i = 0; i < count; ++i) floats[i] = from[i];
}

}  // namespace tandem::cpu
