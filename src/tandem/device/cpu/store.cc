#include "tandem/device/cpu/store.h"

#include "tandem/device/cpu/targets.h"
// The instruction sets come before anything of Highway.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tandem/device/cpu/store.cc"
#include <algorithm>
#include <cstring>

#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tandem::cpu::HWY_NAMESPACE {
namespace {

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

void store_rows(const float (*sums)[block_columns], const Target& to, const Interval& rows) {
  for (int64_t i = rows.begin; i < rows.end; ++i)
    for (int64_t begin = 0; begin < to.cols; begin += 16)
      if (std::byte* row = to.rows[static_cast<size_t>(i)])
        store_run(sums[i] + begin, to, row, begin);
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

}  // namespace
}  // namespace tandem::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tandem::cpu {

HWY_EXPORT(store_rows);
HWY_EXPORT(store_quarter);

namespace {

constexpr int preparing = store_steps / 2;

bool as_bf16(const Target& to) {
  return to.dtype == DType::bf16 && !to.accumulate && rounds_to_bf16();
}

void prepare_write(const Target& to, int step) {
  for (size_t i = step; i < to.rows.size(); i += preparing)
    if (const std::byte* row = to.rows[i]) {
      const std::byte* run = row + to.first * size_of(to.dtype);
      __builtin_prefetch(run, 1);
      __builtin_prefetch(run + to.cols * size_of(to.dtype) - 1, 1);
    }
}

}  // namespace

void store_block(const float (*sums)[block_columns], const Target& to, int step) {
  if (step < preparing) return prepare_write(to, step);
  constexpr int64_t rows_each = block_rows / preparing;
  const int64_t first = (step - preparing) * rows_each;
  const Interval rows{first, std::min(first + rows_each, static_cast<int64_t>(to.rows.size()))};
  if (as_bf16(to)) return store_bf16_rows(sums, to, rows);
  HWY_DYNAMIC_DISPATCH(store_rows)(sums, to, rows);
}

void store_block_transposed(float (*sums)[block_columns], const Target& to, int step) {
  if (step < preparing) return prepare_write(to, step);
  const int64_t first = (step - preparing) / 4 * 16;
  const int quarter = step % 4;
  if (first >= static_cast<int64_t>(to.rows.size())) return;
  if (as_bf16(to)) return store_bf16_transposed(sums, to, first, quarter);
  if (quarter < 2 && quarter * 16 < to.cols)
    HWY_DYNAMIC_DISPATCH(store_quarter)(sums, to, first, quarter * 16);
}

}  // namespace tandem::cpu
#endif
