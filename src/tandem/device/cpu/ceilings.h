// What the processor and its memory can do at best, measured: products in registers alone, and
// reading. Figures of kernels are given as shares of these. For use between operations, since every
// thread is kept busy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tandem/device/tensor.h"

namespace tandem::cpu {

// Multiply-adds of the fastest kind the kernels of gemm.h may use for a dtype, on `threads` threads
// for about `seconds`. 0 where it is not known how to measure this processor.
double peak_flops_per_second(DType dtype, int threads, double seconds);

// The same with operands that are loaded from the first-level cache each time, as no kernel can
// help doing: less where another tenant shares the core. 0 where products need no loads of their
// own.
double loaded_flops_per_second(DType dtype, int threads, double seconds);

// "AMX tiles", "AVX-512 bf16", "AVX-512", "AVX2" or "".
const char* peak_instructions(DType dtype);

// Memory that is read over and over; larger than any cache it should be.
class ReadProbe {
 public:
  explicit ReadProbe(int64_t bytes);
  // Each thread reads its own part once.
  double bytes_per_second(int threads) const;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  int64_t bytes_;
  std::unique_ptr<std::byte[], Free> memory_;
};

}  // namespace tandem::cpu
