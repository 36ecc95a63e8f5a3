// What kernels do with runs of numbers, vectorised: a row or a piece of one at a time. Sums are
// kept in lanes whose number is the processor's alone, so a result depends on the numbers and on n.
#pragma once

#include <cstdint>

#include "tandem/device/tensor.h"

namespace tandem::cpu {

// A run of numbers in memory, f32 or bf16.
struct Numbers {
  std::byte* data;
  DType dtype;
};
inline Numbers numbers(const Tensor& t, int64_t row, int64_t first_col = 0) {
  return {t.row_bytes(row) + first_col * size_of(t.dtype), t.dtype};
}
inline Numbers numbers(float* values) { return {reinterpret_cast<std::byte*>(values), DType::f32}; }
// Read only, although Numbers could be written through.
inline Numbers numbers(const float* values) { return numbers(const_cast<float*>(values)); }

void convert(Numbers from, Numbers to, int64_t n);                      // to = from
void scale(float factor, Numbers from, Numbers to, int64_t n);          // to = factor * from
void multiply(Numbers from, const float* by, Numbers to, int64_t n);    // to = from * by
void add(Numbers from, float* to, int64_t n);                           // to += from
void add_scaled(float factor, Numbers from, float* to, int64_t n);      // to += factor * from
void add_product(Numbers from, const float* by, float* to, int64_t n);  // to += from * by
void shifted_exp(float factor, Numbers from, float shift, Numbers to,
                 int64_t n);  // factor e^(from-shift)

float dot(Numbers a, const float* b, int64_t n);
float largest(Numbers a, int64_t n);  // -infinity for n = 0; ignores NaN
float sum_of_exp(Numbers a, float shift, int64_t n);
double squared_sum(const float* a, int64_t n);

// One number of a run, converted.
inline float value_at(Numbers run, int64_t i) {
  float value = 0;
  convert({run.data + i * size_of(run.dtype), run.dtype}, numbers(&value), 1);
  return value;
}
inline void set_value(Numbers run, int64_t i, float value) {
  convert(numbers(&value), {run.data + i * size_of(run.dtype), run.dtype}, 1);
}

// How many of `threads` are worth waking for so much work: a thread should get some microseconds.
inline int useful_threads(int threads, int64_t elements) {
  constexpr int64_t elements_a_thread = 1 << 14;
  const int64_t most = 1 + elements / elements_a_thread;
  return threads < most ? threads : static_cast<int>(most);
}

}  // namespace tandem::cpu
