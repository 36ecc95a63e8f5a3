#include "peaks.h"

#include <immintrin.h>

#include <vector>

#include "tandem/device/cpu/blocks.h"
#include "tandem/device/cpu/parallel.h"

namespace tandem::benchmarks {
namespace {

__attribute__((target("amx-tile,amx-bf16"))) void amx_rounds(int64_t repeats) {
  alignas(64) static const std::byte zeros[1024] = {};
  cpu::load_tile_configuration();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (int64_t i = 0; i < repeats; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  cpu::release_tiles();
}

__attribute__((target("avx512f"))) void f32_rounds(int64_t repeats) {
  __m512 sums[12], x = _mm512_set1_ps(0.5f);
  for (__m512& sum : sums) sum = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < repeats; ++i) {
    asm volatile("" : "+v"(x));
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, x, x);
  }
  for (__m512& sum : sums) asm volatile("" ::"v"(sum));
}

__attribute__((target("avx512f"))) void read_part(const std::byte* bytes, int64_t count) {
  __m512i seen[4] = {};
  for (int64_t i = 0; i + 256 <= count; i += 256)
    for (int j = 0; j < 4; ++j)
      seen[j] = _mm512_or_si512(seen[j], _mm512_loadu_si512(bytes + i + j * 64));
  for (__m512i& s : seen) asm volatile("" ::"v"(s));
}

}  // namespace

double run_amx(int threads, int64_t repeats) {
  if (!cpu::amx_supported()) return 0;
  cpu::parallel_ranges(threads, threads, [&](const Interval&) { amx_rounds(repeats); });
  constexpr double flops = 4 * 2.0 * 16 * 16 * 32;
  return flops * static_cast<double>(threads * repeats);
}

double run_f32(int threads, int64_t repeats) {
  if (!__builtin_cpu_supports("avx512f")) return 0;
  cpu::parallel_ranges(threads, threads, [&](const Interval&) { f32_rounds(repeats); });
  constexpr double flops = 12 * 2.0 * 16;
  return flops * static_cast<double>(threads * repeats);
}

void read_all(int threads, const std::byte* bytes, int64_t count) {
  if (!__builtin_cpu_supports("avx512f")) return;
  cpu::parallel_ranges(threads, count / 4096, [&](const Interval& part) {
    read_part(bytes + part.begin * 4096, part.size() * 4096);
  });
}

}  // namespace tandem::benchmarks
