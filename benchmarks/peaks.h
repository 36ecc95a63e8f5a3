// What the machine can do at best, measured with as many threads as a kernel uses, so that kernels
// can be given as shares of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tandem::benchmarks {

// Products in registers alone: each thread does `repeats` rounds; returns how many FLOPs that were.
// Zero where the processor lacks the instructions.
double run_amx(int threads, int64_t repeats);
double run_f32(int threads, int64_t repeats);

// Reads the bytes once, each thread its own part.
void read_all(int threads, const std::byte* bytes, int64_t count);

}  // namespace tandem::benchmarks
