// The kernel of int8 for any processor.
#include <cmath>

#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {

void int8_block(const BlockProduct& p) {
  for (int64_t line = 0; line < p.lines; ++line) p.meanwhile.run();
  for (int64_t line = 0; line < p.lines; line += int8_block_lines) {
    const int64_t lines = std::min(int8_block_lines, p.lines - line);
    const Int8Factors& f = p.factors;
    const int64_t block = line / int8_block_lines;
    for (int64_t row = 0; row < p.rows; ++row) {
      int32_t sums[block_columns] = {};
      for (int64_t i = 0; i < lines * line_bytes; ++i) {
        const std::byte* a = p.a.half[row / 16] + row % 16 * p.a.row_step +
                             (line + i / line_bytes) * p.a.line_step + i % line_bytes;
        const std::byte* b = p.b + line * strip_line_bytes + i / 4 * strip_dword_bytes + i % 4;
        for (int64_t c = 0; c < block_columns; ++c)
          sums[c] += static_cast<int32_t>(*a) * static_cast<int8_t>(b[4 * c]);
      }
      float* const c = p.c + row * p.c_stride;
      for (int64_t i = 0; i < block_columns; ++i) {
        const float before = line > 0 || p.accumulate ? c[i] : 0;
        const float factor =
            f.rows[block * block_rows + row] * f.columns[block * f.columns_step + i];
        const int32_t sum = sums[i] - f.excess[block * f.columns_step + i];
        c[i] = std::fma(static_cast<float>(sum), factor, before);
      }
    }
  }
}

}  // namespace tandem::cpu
