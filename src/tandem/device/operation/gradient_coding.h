// Gradients made small for the way to the rank that sums them.
#pragma once

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// top_k: a tenth of the numbers of each block, those of largest magnitude (after Aji & Heafield,
// 2017). int8: multiples of a block's largest magnitude / 127. A block is 1,024 consecutive numbers
// of a row, or what is left of it, so that the size of a message follows from its shape.
enum class GradientCoding : int32_t { plain, top_k, int8, top_k_int8 };
inline constexpr int64_t coding_block = 1024;

constexpr bool keeps_top(GradientCoding c) {
  return c == GradientCoding::top_k || c == GradientCoding::top_k_int8;
}
constexpr bool has_scale(GradientCoding c) {
  return c == GradientCoding::int8 || c == GradientCoding::top_k_int8;
}
// Numbers that are sent of a block of `size`.
constexpr int64_t coded_numbers(GradientCoding c, int64_t size) {
  return keeps_top(c) ? (size + 9) / 10 : size;
}
// Of a block, in 32-bit words: a bit for each number (top_k), the scale (int8), the numbers.
constexpr int64_t coded_words(GradientCoding c, int64_t size) {
  const int64_t numbers = coded_numbers(c, size);
  return (keeps_top(c) ? (size + 31) / 32 : 0) + (has_scale(c) ? 1 + (numbers + 3) / 4 : numbers);
}
// Of a row.
constexpr int64_t coded_row_words(GradientCoding c, int64_t cols) {
  const int64_t whole = cols / coding_block, rest = cols % coding_block;
  return whole * coded_words(c, coding_block) + (rest > 0 ? coded_words(c, rest) : 0);
}

// out (i32, coded_row_words a row) says what it can of gradient + residual (f32, equal shapes), and
// residual becomes what it leaves unsaid: error feedback (Karimireddy et al., 2019). A number that
// is not finite comes out as one.
struct EncodeGradient {
  static constexpr const char* name = "encode gradient";
  Tensor gradient, residual, out;
  GradientCoding coding = GradientCoding::top_k;
  Cost cost() const;
};

// out (f32) = what `in` says.
struct DecodeGradient {
  static constexpr const char* name = "decode gradient";
  Tensor in, out;
  GradientCoding coding = GradientCoding::top_k;
  Cost cost() const;
};

}  // namespace tandem
