#include "tandem/device/cpu/pack.h"

#include "tandem/device/cpu/targets.h"
// The instruction sets come before anything of Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/pack.cc"
#include <algorithm>
#include <cstring>

#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/scratch.h"
#include "tandem/device/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

alignas(64) constexpr std::byte zeros[line_bytes] = {};

int64_t size(const Engine& engine) { return size_of(engine.pairs ? DType::bf16 : DType::f32); }

// A line's worth of a row from `column` on: in place where it is whole, else filled up in `spare`.
HWY_INLINE const std::byte* line_of(const std::byte* row, int64_t begin, int64_t end,
                                    std::byte* spare) {
  if (!row || begin >= end) return zeros;
  if (end - begin >= line_bytes) return row + begin;
  std::memset(spare, 0, line_bytes);
  std::memcpy(spare, row + begin, static_cast<size_t>(end - begin));
  return spare;
}

void panel(const Engine& engine, const RowsOf& from, std::byte* to) {
  const int64_t bytes = from.cols * size(engine), lines = engine.lines(from.cols);
  constexpr int64_t panel_line = block_rows * line_bytes, at_once = 4;
  alignas(64) std::byte spare[line_bytes];
  for (int64_t first = 0; first < lines; first += at_once)
    for (int64_t r = 0; r < block_rows; ++r) {
      const std::byte* row = from.row(r, size(engine));
      std::byte* out = to + r * line_bytes + first * panel_line;
      if (row && (first + at_once) * line_bytes <= bytes) {
        for (int64_t i = 0; i < at_once; ++i)
          copy_line(row + (first + i) * line_bytes, out + i * panel_line);
        continue;
      }
      for (int64_t line = first; line < std::min(first + at_once, lines); ++line)
        copy_line(line_of(row, line * line_bytes, bytes, spare), out + (line - first) * panel_line);
    }
}

void strips(const Engine& engine, const RowsOf& from, const Strips& to) {
  const int64_t bytes = from.cols * size(engine);
  alignas(64) std::byte spare[16][line_bytes];
  for (int64_t first = 0; first < from.count(); first += 16)
    for (int64_t line = 0; line < to.lines; ++line) {
      const std::byte* in[16];
      for (int64_t r = 0; r < 16; ++r)
        in[r] = line_of(from.row(first + r, size(engine)), line * line_bytes, bytes, spare[r]);
      transpose(in, to.at(first / block_columns, line) + first % block_columns * 4,
                strip_dword_bytes);
    }
}

// 16 dwords from one row (f32) or two rows (pairs of bf16) of depth, from column `begin` on.
HWY_INLINE void depth_dwords(const Engine& engine, const std::byte* even, const std::byte* odd,
                             int64_t begin, int64_t end, std::byte* to) {
  alignas(64) std::byte spare[2][line_bytes];
  if (!engine.pairs) return copy_line(line_of(even, begin * 4, end * 4, spare[0]), to);
  if (even && odd && end - begin >= 16) return interleave(even + begin * 2, odd + begin * 2, to);
  const int64_t stop = std::min(end, begin + 16);
  interleave(line_of(even, begin * 2, stop * 2, spare[0]),
             line_of(odd, begin * 2, stop * 2, spare[1]), to);
}

void strips_transposed(const Engine& engine, const RowsOf& from, const Strips& to) {
  const int64_t number_bytes = size(engine), step = engine.pairs ? 2 : 1;
  for (int64_t dword = 0; dword < to.lines * 16; ++dword) {
    const std::byte* even = from.row(dword * step, number_bytes);
    const std::byte* odd = from.row(dword * step + 1, number_bytes);
    for (int64_t begin = 0; begin < to.count * block_columns; begin += 16)
      depth_dwords(engine, even, odd, begin, from.cols,
                   to.at(begin / block_columns, dword / 16) + dword % 16 * strip_dword_bytes +
                       begin % block_columns * 4);
  }
}

void panel_transposed(const Engine& engine, const RowsOf& from, std::byte* to) {
  const int64_t lines = engine.lines(from.count()), number_bytes = size(engine);
  const int64_t step = engine.pairs ? 2 : 1;
  alignas(64) std::byte lying[16][line_bytes];
  for (int64_t line = 0; line < lines; ++line)
    for (int64_t begin = 0; begin < block_rows; begin += 16, to += 16 * line_bytes) {
      const std::byte* in[16];
      for (int64_t d = 0; d < 16; ++d) {
        const int64_t depth = (line * 16 + d) * step;
        depth_dwords(engine, from.row(depth, number_bytes), from.row(depth + 1, number_bytes),
                     begin, from.cols, lying[d]);
        in[d] = lying[d];
      }
      transpose(in, to, line_bytes);
    }
}

// Adds what is wanted to up to 16 sums of one row and writes them.
HWY_INLINE void store_run(const float* sums, const Target& to, std::byte* row, int64_t begin) {
  std::byte* out = row + (to.first + begin) * size_of(to.dtype);
  const int64_t count = std::min<int64_t>(16, to.cols - begin);
  if (count == 16 && !to.bias && !to.accumulate) return write_16(sums, out, to.dtype);
  alignas(64) float run[16], old[16] = {};
  std::memcpy(run, sums, sizeof(run));
  if (to.bias)
    for (int64_t j = 0; j < count; ++j) run[j] += to.bias[begin + j];
  if (to.accumulate) {
    read_floats(out, to.dtype, old, count);
    for (int64_t j = 0; j < 16; ++j) run[j] += old[j];
  }
  if (count == 16) return write_16(run, out, to.dtype);
  write_floats(run, out, to.dtype, count);
}

void store(const float (*sums)[block_columns], const Target& to) {
  for (size_t i = 0; i < to.rows.size(); ++i)
    for (int64_t begin = 0; to.rows[i] && begin < to.cols; begin += 16)
      store_run(sums[i] + begin, to, to.rows[i], begin);
}

// 16 rows and columns of f32.
void store_quarter(const float (*sums)[block_columns], const Target& to, int64_t first,
                   int64_t begin) {
  alignas(64) std::byte turned[16 * line_bytes];
  const std::byte* in[16];
  for (int64_t j = 0; j < 16; ++j)
    in[j] = reinterpret_cast<const std::byte*>(sums[begin + j] + first);
  transpose(in, turned, line_bytes);
  const auto rows = static_cast<int64_t>(to.rows.size());
  for (int64_t i = first; i < std::min(first + 16, rows); ++i)
    if (std::byte* row = to.rows[static_cast<size_t>(i)])
      store_run(reinterpret_cast<const float*>(turned + (i - first) * line_bytes), to, row, begin);
}

HWY_INLINE void prepare_write(const std::byte* run, const Target& to) {
  __builtin_prefetch(run, 1);
  __builtin_prefetch(run + to.cols * size_of(to.dtype) - 1, 1);
}

// bf16, a quarter of the work on 16 rows: first the sums are turned, then rows are stored.
void store_pairs(float (*sums)[block_columns], const Target& to, int64_t first, int quarter) {
  const int64_t begin = quarter % 2 * 2;
  if (quarter < 2) {
    for (int64_t part = begin * 8; part < std::min(begin * 8 + 16, to.cols); part += 8)
      turn_pairs(sums + part, first, to.bias ? to.bias + part : nullptr);
    return;
  }
  const auto rows = static_cast<int64_t>(to.rows.size());
  for (int64_t j = begin; j < begin + 2; ++j) {
    std::byte* out[4] = {};
    for (int64_t l = 0; l < 4; ++l)
      if (const int64_t i = first + j + 4 * l; i < rows && to.rows[static_cast<size_t>(i)])
        out[l] = to.rows[static_cast<size_t>(i)] + to.first * 2;
    store_turned(sums, first, j, out, to.cols);
  }
}

void store_transposed(float (*sums)[block_columns], const Target& to, int step) {
  constexpr int preparing = store_steps / 2;
  if (step < preparing) {
    for (size_t i = step; i < to.rows.size(); i += preparing)
      if (to.rows[i]) prepare_write(to.rows[i] + to.first * size_of(to.dtype), to);
    return;
  }
  const int64_t half = (step - preparing) / 4;
  const int quarter = step % 4;
  if (half * 16 >= static_cast<int64_t>(to.rows.size())) return;
  if (to.dtype == DType::bf16 && !to.accumulate)
    store_pairs(sums, to, half * 16, quarter);
  else if (quarter < 2 && quarter * 16 < to.cols)
    store_quarter(sums, to, half * 16, quarter * 16);
}

void features(const Engine& engine, const float (*from)[block_columns], const Interval& depth,
              int columns, const Strips& to, int64_t strip) {
  const int64_t step = engine.pairs ? 2 : 1;
  for (int64_t f = 0; f < depth.size(); f += step) {
    const int64_t dword = (depth.begin + f) / step;
    std::byte* out = to.at(strip, dword / 16) + dword % 16 * strip_dword_bytes;
    alignas(64) uint32_t dwords[block_columns];
    std::memcpy(dwords, from[f], sizeof(dwords));
    if (engine.pairs)  // the upper halves of f32 that are bf16
      for (int column = 0; column < columns; ++column)
        dwords[column] =
            dwords[column] >> 16 | (std::bit_cast<uint32_t>(from[f + 1][column]) & 0xFFFF0000);
    std::memcpy(out, dwords, static_cast<size_t>(columns) * 4);
  }
}

void round_all(float* numbers, int64_t count) {
  for (int64_t i = 0; i < count; ++i) numbers[i] = to_float(to_bf16(numbers[i]));
}

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(panel);
HWY_EXPORT(strips);
HWY_EXPORT(panel_transposed);
HWY_EXPORT(strips_transposed);
HWY_EXPORT(store);
HWY_EXPORT(store_transposed);
HWY_EXPORT(features);
HWY_EXPORT(round_all);

namespace {

// The rows as kernels want them: bf16 becomes f32 for kernels without bf16, in this thread's
// scratch.
class Ready {
 public:
  Ready(const Engine& engine, const RowsOf& from) : rows_(from) {
    if (!engine.widen) return;
    static thread_local Scratch numbers, pointers;
    auto* to = numbers.get<float>(from.count() * from.cols);
    auto** rows = pointers.get<const std::byte*>(from.count());
    for (size_t i = 0; i < from.rows.size(); ++i, to += from.cols) {
      rows[i] = from.rows[i] ? reinterpret_cast<const std::byte*>(to) : nullptr;
      if (from.rows[i])
        read_floats(from.row(static_cast<int64_t>(i), 2), DType::bf16, to, from.cols);
    }
    rows_ = {{rows, from.rows.size()}, from.cols};
  }
  const RowsOf& rows() const { return rows_; }

 private:
  RowsOf rows_;
};

}  // namespace

void pack_panel(const Engine& engine, const RowsOf& from, std::byte* to) {
  HWY_DYNAMIC_DISPATCH(panel)(engine, Ready(engine, from).rows(), to);
}
void pack_strips(const Engine& engine, const RowsOf& from, const Strips& to) {
  HWY_DYNAMIC_DISPATCH(strips)(engine, Ready(engine, from).rows(), to);
}
void pack_panel_transposed(const Engine& engine, const RowsOf& from, std::byte* to) {
  HWY_DYNAMIC_DISPATCH(panel_transposed)(engine, Ready(engine, from).rows(), to);
}
void pack_strips_transposed(const Engine& engine, const RowsOf& from, const Strips& to) {
  HWY_DYNAMIC_DISPATCH(strips_transposed)(engine, Ready(engine, from).rows(), to);
}
void store_block(const float (*sums)[block_columns], const Target& to) {
  HWY_DYNAMIC_DISPATCH(store)(sums, to);
}
void store_block_transposed(float (*sums)[block_columns], const Target& to, int step) {
  HWY_DYNAMIC_DISPATCH(store_transposed)(sums, to, step);
}
void put_features(const Engine& engine, const float (*features)[block_columns],
                  const Interval& depth, int columns, const Strips& to, int64_t strip) {
  HWY_DYNAMIC_DISPATCH(features)(engine, features, depth, columns, to, strip);
}
void round_to_bf16(float* numbers, int64_t count) {
  HWY_DYNAMIC_DISPATCH(round_all)(numbers, count);
}

}  // namespace tandem::cpu
#endif
