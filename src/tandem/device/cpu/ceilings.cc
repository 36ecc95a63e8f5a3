#include "tandem/device/cpu/ceilings.h"

#include <immintrin.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "tandem/base/clock.h"
#include "tandem/device/cpu/blocks.h"
#include "tandem/device/cpu/gemm.h"
#include "tandem/device/cpu/parallel.h"

namespace tandem::cpu {
namespace {

// Some rounds of independent products; `flops` is what a round does.
struct Loop {
  const char* instructions = "";
  double flops = 0;
  void (*run)(int64_t rounds) = nullptr;
  void (*run_loaded)(int64_t rounds) = nullptr;  // where operands have registers of their own kind
};

__attribute__((target("amx-tile,amx-bf16"))) void amx_rounds(int64_t rounds) {
  alignas(64) static const std::byte zeros[1024] = {};
  load_tile_configuration();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  release_tiles();
}

// Two rows of tiles by two columns, the most that eight tiles allow.
__attribute__((target("amx-tile,amx-bf16"))) void amx_loaded_rounds(int64_t rounds) {
  alignas(64) static const std::byte zeros[4][1024] = {};
  load_tile_configuration();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_loadd(6, zeros[0], 64);
    _tile_loadd(4, zeros[1], 64);
    _tile_loadd(5, zeros[2], 64);
    _tile_loadd(7, zeros[3], 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  release_tiles();
}

// Enough sums in flight to hide the latency of an instruction; numbers that stay finite and normal.
constexpr int sums_in_flight = 12;

__attribute__((target("avx512f,avx512bf16"))) void avx512_bf16_rounds(int64_t rounds) {
  __m512 sums[sums_in_flight];
  auto x = (__m512bh)_mm512_set1_epi32(0);
  for (__m512& sum : sums) sum = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(x));
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, x, x);
  }
  for (__m512& sum : sums) asm volatile("" ::"v"(sum));
}

__attribute__((target("avx512f"))) void avx512_rounds(int64_t rounds) {
  __m512 sums[sums_in_flight];
  __m512 x = _mm512_set1_ps(0.5f);
  for (__m512& sum : sums) sum = _mm512_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(x));
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(sum, x, x);
  }
  for (__m512& sum : sums) asm volatile("" ::"v"(sum));
}

__attribute__((target("avx2,fma"))) void avx2_rounds(int64_t rounds) {
  __m256 sums[sums_in_flight];
  __m256 x = _mm256_set1_ps(0.5f);
  for (__m256& sum : sums) sum = _mm256_set1_ps(1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+x"(x));
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(sum, x, x);
  }
  for (__m256& sum : sums) asm volatile("" ::"x"(sum));
}

Loop loop_for(DType dtype) {
  if (dtype == DType::bf16 && bf16_path() == Bf16Path::amx)
    return {"AMX tiles", 4 * 2.0 * 16 * 16 * 32, amx_rounds, amx_loaded_rounds};
  if (dtype == DType::bf16 && bf16_path() == Bf16Path::avx512)
    return {"AVX-512 bf16", sums_in_flight * 2.0 * 32, avx512_bf16_rounds};
  if (__builtin_cpu_supports("avx512f"))
    return {"AVX-512", sums_in_flight * 2.0 * 16, avx512_rounds};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {"AVX2", sums_in_flight * 2.0 * 8, avx2_rounds};
  return {};
}

constexpr int64_t pieces_a_thread = 16;

// Bringing lines near that are needed a little later is a third faster than reading alone.
constexpr int64_t bytes_ahead = 1024;

__attribute__((target("avx512f"))) void read_avx512(const std::byte* bytes, int64_t count) {
  __m512i seen[4] = {};
  for (int64_t i = 0; i + 256 <= count; i += 256)
    for (int j = 0; j < 4; ++j) {
      _mm_prefetch(bytes + i + j * 64 + bytes_ahead, _MM_HINT_T1);
      seen[j] = _mm512_or_si512(seen[j], _mm512_loadu_si512(bytes + i + j * 64));
    }
  for (__m512i& s : seen) asm volatile("" ::"v"(s));
}

void read_sse2(const std::byte* bytes, int64_t count) {
  __m128i seen[4] = {};
  for (int64_t i = 0; i + 64 <= count; i += 64) {
    _mm_prefetch(bytes + i + bytes_ahead, _MM_HINT_T1);
    for (int j = 0; j < 4; ++j)
      seen[j] = _mm_or_si128(seen[j],
                             _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i + j * 16)));
  }
  for (__m128i& s : seen) asm volatile("" ::"x"(s));
}

}  // namespace

const char* peak_instructions(DType dtype) { return loop_for(dtype).instructions; }

namespace {

double flops_per_second(void (*run)(int64_t rounds), double flops, int threads, double seconds) {
  if (!run) return 0;
  // A first guess at the rounds, then as many as fill the time; dealt out as kernels deal out work.
  const int64_t pieces = threads * pieces_a_thread;
  int64_t rounds = 1000;
  for (int trial = 0;; ++trial) {
    const double start = wall_seconds();
    parallel_items(threads, pieces, [&](int64_t) { run(rounds); });
    const double taken = std::max(1e-7, wall_seconds() - start);
    if (trial > 0) return flops * static_cast<double>(rounds * pieces) / taken;
    rounds = std::max(rounds, static_cast<int64_t>(static_cast<double>(rounds) * seconds / taken));
  }
}

}  // namespace

double peak_flops_per_second(DType dtype, int threads, double seconds) {
  const Loop loop = loop_for(dtype);
  return flops_per_second(loop.run, loop.flops, threads, seconds);
}

double loaded_flops_per_second(DType dtype, int threads, double seconds) {
  const Loop loop = loop_for(dtype);
  return flops_per_second(loop.run_loaded, loop.flops, threads, seconds);
}

// On large pages, as weights are.
ReadProbe::ReadProbe(int64_t bytes) : bytes_(bytes) {
  constexpr int64_t page = int64_t{2} << 20;
  const int64_t whole = (bytes + page - 1) / page * page;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(page, whole)));
  if (!memory_) throw std::bad_alloc();
  madvise(memory_.get(), whole, MADV_HUGEPAGE);
  std::memset(memory_.get(), 1, whole);
}

double ReadProbe::bytes_per_second(int threads) const {
  const int64_t pieces = threads * pieces_a_thread;
  const int64_t piece = bytes_ / pieces / 4096 * 4096;
  const auto read = __builtin_cpu_supports("avx512f") ? read_avx512 : read_sse2;
  const double start = wall_seconds();
  parallel_items(threads, pieces, [&](int64_t i) { read(memory_.get() + i * piece, piece); });
  return static_cast<double>(pieces * piece) / (wall_seconds() - start);
}

}  // namespace tandem::cpu
