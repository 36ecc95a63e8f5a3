#include "tandem/device/cpu/random_lanes.h"

#include <cmath>
#include <numbers>

namespace tandem::cpu {

void dropout_mask(const RandomSource& source, float probability, uint64_t key, int64_t first,
                  int64_t count, float* out) {
  const float kept = 1 / (1 - probability);
  for (int64_t j = 0; j < count; ++j) {
    out[j] = source.uniform(key, static_cast<uint64_t>(first + j)) >= probability ? kept : 0;
  }
}

void normal_numbers(const RandomSource& source, uint64_t item, int64_t first, int64_t count,
                    float* out) {
  for (int64_t j = 0; j < count; ++j) {
    const uint64_t index = static_cast<uint64_t>(first + j);
    const auto block = source.block(item, index / 4);
    const size_t pair = index % 4 / 2 * 2;
    const float u = 1 - unit_float(block[pair]);
    const float angle = 2 * std::numbers::pi_v<float> * unit_float(block[pair + 1]);
    out[j] = std::sqrt(-2 * std::log(u)) * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
  }
}

}  // namespace tandem::cpu
