// Random numbers by the row: dropout masks and normal numbers, many Philox blocks at a time.
#pragma once

#include <cstdint>

#include "tandem/device/operations.h"

namespace tandem::cpu {

// out[j] = 1 / (1 - probability) where feature first + j of item `key` is kept, 0 where it is
// dropped.
void dropout_mask(const RandomSource& source, float probability, uint64_t key, int64_t first,
                  int64_t count, float* out);
// The mask of columns 0 .. count - 1 of a row.
inline void dropout_mask(const Dropout& dropout, int64_t row, int64_t count, float* out) {
  dropout_mask(dropout.source(), dropout.probability, dropout.keys[static_cast<size_t>(row)],
               dropout.first_feature, count, out);
}

// out[j] = normal number first + j of `item` (Box-Muller, a block of four from a block of four).
void normal_numbers(const RandomSource& source, uint64_t item, int64_t first, int64_t count,
                    float* out);

}  // namespace tandem::cpu
