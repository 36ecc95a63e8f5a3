// The one shape all products are cut into, whatever the processor and the dtype.
//
// Memory is seen as dwords: a dword is one f32, or a pair of bf16 that are neighbours in the
// direction of the sum ("depth"). 16 dwords are a line of 64 bytes.
//   A panel holds up to 32 rows of the left matrix, depth along the lines:  [line][row][16 dwords]
//   A strip holds 16 columns of the right one, depth across the lines:      [dword][16 columns]
// A kernel multiplies a panel by one or two strips into a block of 32 x 32 sums in f32. It adds in
// the order of depth, so an element depends on its own row and column alone; padding is zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tandem/device/cpu/gemm.h"
#include "tandem/device/tensor.h"

namespace tandem::cpu {

inline constexpr int64_t line_bytes = 64, strip_columns = 16, block_rows = 32, block_columns = 32;

// Row r of the panel begins at half[r / 16] + r % 16 * row_step; its next line lies line_step
// behind.
struct Panel {
  const std::byte* half[2] = {};
  int64_t row_step = 0, line_step = 0;
};

struct Strips {
  const std::byte* data = nullptr;
  int64_t strip_step = 0;  // bytes from a strip to the next
};

// Other work for a thread whose tile unit is busy.
struct Meanwhile {
  void (*work)(void*) = nullptr;
  void* context = nullptr;
  void run() const {
    if (work) work(context);
  }
};

struct BlockProduct {
  Panel a;
  int rows = 32;  // 16 or 32
  Strips b;
  int strips = 2;  // 1 or 2
  int64_t lines = 0;
  float* c = nullptr;
  int64_t c_stride = block_columns;
  bool accumulate = false;
  // Where to leave a packed copy of the panel, or null: cheaper than packing it first, since the
  // panel passes through tiles anyway. Only where an engine has them.
  std::byte* copy = nullptr;
  // Rows that are needed next, brought near while this is computed: line for line, `lines` of each.
  std::span<const std::byte* const> ahead;
  int64_t ahead_offset = 0;  // bytes
  // Run once, while sums are still being made and before any is written to c.
  Meanwhile meanwhile;
};

// Kernels that compute a few rows at a time bring as many near with each.
inline std::span<const std::byte* const> rows_ahead(const BlockProduct& p, int first, int count) {
  const size_t begin = std::min(static_cast<size_t>(first), p.ahead.size());
  return p.ahead.subspan(begin, std::min(static_cast<size_t>(count), p.ahead.size() - begin));
}

void amx_block(const BlockProduct& p);
void avx512_bf16_block(const BlockProduct& p);
void f32_block(const BlockProduct& p);

bool amx_supported();
void load_tile_configuration();
void release_tiles();

// How matrices of a dtype are multiplied on this processor.
struct Engine {
  void (*multiply)(const BlockProduct&) = f32_block;
  DType dtype = DType::f32;  // of the matrices
  bool pairs = false;        // dwords are pairs of bf16
  bool widen = false;        // bf16 that is turned into f32 on the way to panels and strips
  bool tiles = false;        // threads hold a tile configuration

  int64_t dwords(int64_t depth) const { return pairs ? (depth + 1) / 2 : depth; }
  int64_t lines(int64_t depth) const { return (dwords(depth) + 15) / 16; }
  int64_t depth_of_line() const { return pairs ? 32 : 16; }
};

Engine engine_for(DType dtype);

// Lives on a thread while it multiplies.
class TileSession {
 public:
  explicit TileSession(const Engine& engine) : used_(engine.tiles) {
    if (used_) load_tile_configuration();
  }
  ~TileSession() {
    if (used_) release_tiles();
  }
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;

 private:
  bool used_;
};

}  // namespace tandem::cpu
