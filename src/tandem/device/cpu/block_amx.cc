// The kernel on AMX tiles. A tile is 16 rows of one line; tdpbf16ps multiplies 16 rows of a panel
// by 16 dwords of depth of half a strip.
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tandem/device/cpu/blocks.h"

#define TANDEM_AMX __attribute__((target("amx-tile,amx-bf16,avx512f")))
#define TANDEM_AMX_INLINE TANDEM_AMX __attribute__((always_inline)) inline

namespace tandem::cpu {
namespace {

bool processor_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  return (d & amx_bf16) && (d & amx_tile) && __builtin_cpu_supports("avx512bw");
}

// Linux gives tile registers to processes that ask for them.
bool permitted_by_kernel() {
  constexpr int request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

struct alignas(64) TileConfiguration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t column_bytes[16] = {};
  uint8_t rows[16] = {};
};

// What becomes of lines of a panel that pass through tiles. A packed panel serves many strips: its
// first lines, as many as the first-level cache has room for beside what else goes on, are kept
// there. Its other lines and the strips come from the second-level cache and are used once, so they
// go past the first, where they would only compete. Rows in place are brought by the processor
// itself, if they go the usual way.
enum class Rows { kept, passing, in_place, copied };
constexpr int64_t most_kept = 16;

// Tiles: 0..3 sums, 4, 5 panel, 6, 7 strip.
template <bool two_halves, bool wide, Rows panel>
TANDEM_AMX_INLINE void add_lines(const BlockProduct& p, int64_t first, int64_t end) {
  const std::byte* a0 = p.a.half[0] + first * p.a.line_step;
  const std::byte* a1 = p.a.half[1] + first * p.a.line_step;
  const std::byte* b = p.b + first * strip_line_bytes;
  const auto a_step = static_cast<size_t>(p.a.row_step);
  for (int64_t line = first; line < end; ++line) {
    _tile_stream_loadd(6, b, strip_dword_bytes);
    if constexpr (panel == Rows::passing) {
      _tile_stream_loadd(4, a0, a_step);
      if constexpr (two_halves) _tile_stream_loadd(5, a1, a_step);
    } else {
      _tile_loadd(4, a0, a_step);
      if constexpr (two_halves) _tile_loadd(5, a1, a_step);
    }
    if constexpr (wide) _tile_stream_loadd(7, b + line_bytes, strip_dword_bytes);
    if constexpr (panel == Rows::copied) {
      std::byte* const copy = p.copy + line * block_rows * line_bytes;
      _tile_stored(4, copy, line_bytes);
      if constexpr (two_halves) _tile_stored(5, copy + 16 * line_bytes, line_bytes);
    }
    p.meanwhile.run();
    // A tenth faster where another thread of the core is busy; why, we do not know.
    asm volatile("nop\n nop\n nop\n nop");
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (two_halves) _tile_dpbf16ps(2, 5, 6);
    if constexpr (wide) _tile_dpbf16ps(1, 4, 7);
    if constexpr (two_halves && wide) _tile_dpbf16ps(3, 5, 7);
    a0 += p.a.line_step;
    a1 += p.a.line_step;
    b += strip_line_bytes;
  }
}

template <bool two_halves, bool wide>
TANDEM_AMX void multiply(const BlockProduct& p) {
  const auto c_step = static_cast<size_t>(p.c_stride) * 4;
  float* const c1 = p.c + 16 * p.c_stride;
  if (p.accumulate) {
    _tile_loadd(0, p.c, c_step);
    if constexpr (wide) _tile_loadd(1, p.c + 16, c_step);
    if constexpr (two_halves) _tile_loadd(2, c1, c_step);
    if constexpr (two_halves && wide) _tile_loadd(3, c1 + 16, c_step);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  if (p.copy) {
    add_lines<two_halves, wide, Rows::copied>(p, 0, p.lines);
  } else if (p.a.row_step == line_bytes) {
    const int64_t kept = std::min(p.lines, most_kept);
    add_lines<two_halves, wide, Rows::kept>(p, 0, kept);
    add_lines<two_halves, wide, Rows::passing>(p, kept, p.lines);
  } else {
    add_lines<two_halves, wide, Rows::in_place>(p, 0, p.lines);
  }
  _tile_stored(0, p.c, c_step);
  if constexpr (wide) _tile_stored(1, p.c + 16, c_step);
  if constexpr (two_halves) _tile_stored(2, c1, c_step);
  if constexpr (two_halves && wide) _tile_stored(3, c1 + 16, c_step);
}

}  // namespace

bool amx_supported() {
  static const bool supported = processor_has_amx() && permitted_by_kernel();
  return supported;
}

TANDEM_AMX void load_tile_configuration() {
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) {
    configuration.column_bytes[tile] = 64;
    configuration.rows[tile] = 16;
  }
  // GCC 12 believes that loading reads the first 8 bytes alone, and drops the other stores.
  asm volatile("" ::"r"(&configuration) : "memory");
  _tile_loadconfig(&configuration);
}

TANDEM_AMX void release_tiles() { _tile_release(); }

void amx_block(const BlockProduct& p) {
  if (p.rows > 16) {
    p.columns > 16 ? multiply<true, true>(p) : multiply<true, false>(p);
  } else {
    p.columns > 16 ? multiply<false, true>(p) : multiply<false, false>(p);
  }
}

}  // namespace tandem::cpu
