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

int64_t size(const Engine& engine) { return engine.number_bytes(); }

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
  for (int64_t first = 0; first < from.count(); first += 16) {
    const int64_t strip = first / block_columns;
    const auto line_at = [&](int64_t line, int64_t r) {
      return line_of(from.row(first + r, size(engine)), line * line_bytes, bytes, spare[r]);
    };
    if (engine.lies(from.count() - strip * block_columns)) {
      for (int64_t line = 0; line < to.lines; ++line)
        for (int64_t r = 0; r < from.count() - first; ++r)
          copy_line(line_at(line, r), to.at(strip, line) + r * line_bytes);
      continue;
    }
    for (int64_t line = 0; line < to.lines; ++line) {
      const std::byte* in[16];
      for (int64_t r = 0; r < 16; ++r) in[r] = line_at(line, r);
      transpose(in, to.at(strip, line) + first % block_columns * 4, strip_dword_bytes);
    }
  }
}

// 32 dwords from one row (f32) or two rows (pairs of bf16) of depth, from column `begin` on.
HWY_INLINE void depth_dwords(const Engine& engine, const std::byte* even, const std::byte* odd,
                             int64_t begin, int64_t end, std::byte* to) {
  alignas(64) std::byte spare[2][line_bytes];
  if (engine.pairs)
    return interleave(line_of(even, begin * 2, end * 2, spare[0]),
                      line_of(odd, begin * 2, end * 2, spare[1]), to);
  copy_line(line_of(even, begin * 4, end * 4, spare[0]), to);
  copy_line(line_of(even, (begin + 16) * 4, end * 4, spare[1]), to + line_bytes);
}

// 16 dwords of depth.
void depth_line(const Engine& engine, const RowsOf& from, int64_t line, int64_t begin,
                std::byte* to) {
  const int64_t number_bytes = size(engine), step = engine.pairs ? 2 : 1;
  for (int64_t dword = line * 16; dword < line * 16 + 16; ++dword, to += strip_dword_bytes)
    depth_dwords(engine, from.row(dword * step, number_bytes),
                 from.row(dword * step + 1, number_bytes), begin, from.cols, to);
}

// The same turned: a line of each of 32 columns.
void lying_depth_line(const Engine& engine, const RowsOf& from, int64_t line, int64_t begin,
                      std::byte* to) {
  alignas(64) std::byte standing[strip_line_bytes];
  depth_line(engine, from, line, begin, standing);
  for (int64_t half = 0; half < 2; ++half, to += 16 * line_bytes) {
    const std::byte* in[16];
    for (int64_t d = 0; d < 16; ++d) in[d] = standing + d * strip_dword_bytes + half * line_bytes;
    transpose(in, to, line_bytes);
  }
}

// Line by line: strips lie so far apart that the same line of all of them competes for one place.
void strips_transposed(const Engine& engine, const RowsOf& from, const Strips& to) {
  for (int64_t line = 0; line < to.lines; ++line)
    for (int64_t strip = 0; strip < to.count; ++strip) {
      const int64_t begin = strip * block_columns;
      const auto pack = engine.lies(from.cols - begin) ? lying_depth_line : depth_line;
      pack(engine, from, line, begin, to.at(strip, line));
    }
}

void panel_transposed(const Engine& engine, const RowsOf& from, std::byte* to) {
  for (int64_t line = 0; line < engine.lines(from.count()); ++line)
    lying_depth_line(engine, from, line, 0, to + line * strip_line_bytes);
}

void features(const Engine& engine, const float (*from)[block_columns], const Interval& depth,
              int columns, const Strips& to, int64_t strip) {
  const int64_t step = engine.pairs ? 2 : 1;
  for (int64_t f = 0; f < depth.size(); f += step) {
    const int64_t dword = (depth.begin + f) / step;
    std::byte* const line = to.at(strip, dword / 16);
    alignas(64) uint32_t dwords[block_columns];
    std::memcpy(dwords, from[f], sizeof(dwords));
    if (engine.pairs)  // the upper halves of f32 that are bf16
      for (int column = 0; column < columns; ++column)
        dwords[column] =
            dwords[column] >> 16 | (std::bit_cast<uint32_t>(from[f + 1][column]) & 0xFFFF0000);
    if (!engine.lies(columns)) {
      std::memcpy(line + dword % 16 * strip_dword_bytes, dwords, static_cast<size_t>(columns) * 4);
      continue;
    }
    for (int column = 0; column < columns; ++column)
      std::memcpy(line + column * line_bytes + dword % 16 * 4, &dwords[column], 4);
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
void put_features(const Engine& engine, const float (*features)[block_columns],
                  const Interval& depth, int columns, const Strips& to, int64_t strip) {
  HWY_DYNAMIC_DISPATCH(features)(engine, features, depth, columns, to, strip);
}
void round_to_bf16(float* numbers, int64_t count) {
  HWY_DYNAMIC_DISPATCH(round_all)(numbers, count);
}

}  // namespace tandem::cpu
#endif
