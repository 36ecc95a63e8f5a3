// Random numbers by the row: dropout masks and normal numbers, many Philox blocks at a time.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/base/interval.h"
#include "tandem/device/operations.h"

namespace tandem::cpu {

// out[i * stride + j] = 1 / (1 - probability) where feature features.begin + j of item keys[i] is
// kept, 0 where it is dropped.
void dropout_mask(const RandomSource& source, float probability, std::span<const uint64_t> keys,
                  const Interval& features, float* out, int64_t stride);
// Of some rows and columns.
inline void dropout_mask(const Dropout& dropout, const Interval& rows, const Interval& columns,
                         float* out, int64_t stride) {
  dropout_mask(dropout.source(), dropout.probability, part_of(dropout.keys, rows),
               columns.shifted(dropout.first_feature), out, stride);
}

// out[j] = normal number numbers.begin + j of `item` (Box-Muller, a block of four from a block of
// four).
void normal_numbers(const RandomSource& source, uint64_t item, const Interval& numbers, float* out);

}  // namespace tandem::cpu
