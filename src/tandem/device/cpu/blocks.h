// The one shape all products are cut into, whatever the processor and the dtype.
//
// Memory is seen as dwords: a dword is one f32, or a pair of bf16, or four int8 that are neighbours
// in the direction of the sum ("depth"). 16 dwords are a line of 64 bytes.
//   A panel holds up to 32 rows of the left matrix, depth along the lines:  [line][row][16 dwords]
//   A strip holds up to 32 columns of the right one, depth across them:     [dword][32 columns]
//   or, where an engine wants few of them so, as a panel does:              [line][32][16 dwords]
// A kernel multiplies a panel by a strip into a block of 32 x 32 sums in f32. It adds in the order
// of depth, so an element depends on its own row and column alone; padding is zeros.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tandem/device/cpu/gemm.h"
#include "tandem/device/tensor.h"

namespace tandem::cpu {

inline constexpr int64_t line_bytes = 64, block_rows = 32, block_columns = 32;
inline constexpr int64_t strip_dword_bytes = block_columns * 4;      // from a dword to the next
inline constexpr int64_t strip_line_bytes = 16 * strip_dword_bytes;  // 16 dwords of depth

// Lines of depth that are multiplied before the next ones: so that what goes with them stays in the
// second-level cache, and enough that sums rarely leave their tiles.
inline constexpr int64_t lines_at_once = 64;

// Row r of the panel begins at half[r / 16] + r % 16 * row_step; its next line lies line_step
// behind.
struct Panel {
  const std::byte* half[2] = {};
  int64_t row_step = 0, line_step = 0;
};

// Strips in pieces of `lines_at_once` lines of depth. The strips of a piece lie behind each other:
// what is multiplied together is one run of memory, which caches hold whole.
struct Strips {
  std::byte* data = nullptr;
  int64_t count = 0, lines = 0;

  int64_t bytes() const { return count * lines * strip_line_bytes; }
  std::byte* at(int64_t strip, int64_t line) const {
    const int64_t piece = line / lines_at_once * lines_at_once;
    const int64_t strip_lines = std::min(lines_at_once, lines - piece);
    return data + (piece * count + strip * strip_lines + line - piece) * strip_line_bytes;
  }
};

// Other work for a thread whose units for products are busy: a little with every line of
// depth. Little, since a processor looks only some hundred instructions ahead for more products.
struct Meanwhile {
  void (*work)(void* context) = nullptr;
  void* context = nullptr;
  void run() const {
    if (work) work(context);
  }
};

// What sums of int8 are multiplied with, for each `int8_block_lines` lines of depth.
struct Int8Factors {
  const float* rows = nullptr;  // of the panel: [block][32]
  // Of the strip: [block][columns_step], and what the sums exceed theirs by, since the panel's
  // numbers are kept above -128.
  const float* columns = nullptr;
  const int32_t* excess = nullptr;
  int64_t columns_step = 0;

  Int8Factors from_row(int64_t row) const {
    return {rows ? rows + row : nullptr, columns, excess, columns_step};
  }
};
inline constexpr int64_t int8_block_lines = 2;  // a block of factors (block_scales.h)
inline int64_t factor_blocks(int64_t lines) {
  return (lines + int8_block_lines - 1) / int8_block_lines;
}

// Rows to bring near in the order of memory while others are multiplied: some lines at a time,
// spread over 16 dwords of depth, since many at once hold up the loads behind them; and without a
// branch, which costs a tenth of the speed of few columns.
struct Run {
  const std::byte* at = nullptr;   // the next lines; null: nothing
  int64_t pieces_of_row = 1;       // of as many lines
  int64_t row_gap = 0;             // bytes from their end to the next row
  int64_t pieces = pieces_of_row;  // left of this row

  template <int64_t lines>
  void bring(int dword) const {
    __builtin_prefetch(at + dword * (lines * line_bytes / 16));
  }
  template <int64_t lines>
  void next() {
    pass(lines * line_bytes);
  }
  // A piece of so many bytes is near.
  void pass(int64_t bytes) {
    --pieces;
    const int64_t at_end = -static_cast<int64_t>(pieces == 0);
    at += bytes + (row_gap & at_end);
    pieces += pieces_of_row & at_end;
  }
  // Where there is nothing to bring, some memory that is near, so that kernels need not ask.
  Run or_at(const std::byte* there) const { return at ? *this : Run{.at = there}; }
};

struct BlockProduct {
  Panel a;
  int rows = 32;                 // 16 or 32
  const std::byte* b = nullptr;  // a strip
  int columns = 32;              // whose sums are wanted, of the strip's 32
  int64_t lines = 0;
  float* c = nullptr;
  int64_t c_stride = block_columns;
  bool accumulate = false;
  Meanwhile meanwhile;  // run before any sum is written to c
  // Brought near beside each half, by an engine that does so: 8 lines every so many lines of depth.
  Run near[2];
  int turns = 1;
  Int8Factors factors;  // of int8
  // Where to leave a packed copy of the panel, or null: cheaper than packing it first, since the
  // panel passes through tiles anyway. Only where an engine has them.
  std::byte* copy = nullptr;
};

void amx_block(const BlockProduct& p);
void avx512_bf16_block(const BlockProduct& p);
void f32_block(const BlockProduct& p);
// The panel has int8 as weights do, the strip int8 with a sign. All give the same bits.
void int8_block(const BlockProduct& p);
void vnni_block(const BlockProduct& p);
bool vnni_supported();

inline constexpr int few_columns = 16;

// A panel times a strip that lies as a panel does. Lanes are rows of the panel, so that few columns
// leave none of them empty. Sums are the same as those of blocks, in the same order.
struct FewProduct {
  Panel a;
  int rows = 32;                 // 16 or 32
  const std::byte* b = nullptr;  // [line][32][16 dwords]
  int columns = 1;               // up to few_columns
  int64_t lines = 0;
  float* c = nullptr;  // [column][32 rows]
  bool accumulate = false;
  Int8Factors factors;  // of int8
  Run near[2];          // brought near beside each half, 16 lines with each line of depth
};

void avx512_bf16_few(const FewProduct& p);
void vnni_few(const FewProduct& p);

bool amx_supported();
void load_tile_configuration();
void release_tiles();

// How matrices of a dtype are multiplied on this processor.
struct Engine {
  void (*multiply)(const BlockProduct&) = f32_block;
  void (*multiply_few)(const FewProduct&) = nullptr;  // null: few columns are as many
  DType dtype = DType::f32;                           // of the matrices
  bool pairs = false;                                 // dwords are pairs of bf16
  bool quads = false;   // dwords are four int8, rows of activations bf16 that become int8
  bool widen = false;   // bf16 that is turned into f32 on the way to panels and strips
  bool tiles = false;   // threads hold a tile configuration
  bool brings = false;  // its kernels bring near what comes next

  int64_t number_bytes() const { return quads ? 1 : pairs ? 2 : 4; }
  int64_t dwords(int64_t depth) const { return (depth * number_bytes() + 3) / 4; }
  int64_t lines(int64_t depth) const { return (dwords(depth) + 15) / 16; }
  int64_t depth_of_line() const { return line_bytes / number_bytes(); }
  // That are full, and the blocks they belong to too.
  int64_t whole_lines(int64_t depth) const {
    const int64_t whole = depth / depth_of_line();
    return quads ? whole / int8_block_lines * int8_block_lines : whole;
  }
  // Whether a strip of so many columns lies as a panel does, and its sums are [column][row].
  bool lies(int64_t columns) const { return multiply_few && columns <= few_columns; }
};

Engine engine_for(DType dtype);
// One whose strips stand and whose sums are [row][column], however few columns there are.
Engine standing_engine_for(DType dtype);

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
