// Percentiles of measured seconds. Pure functions, safe from any thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace tandem {

struct Quantiles {
  double p50 = 0, p90 = 0, p99 = 0;
};

// The smallest value that at least so many of them do not exceed; zeros of none.
inline Quantiles quantiles(std::vector<double> values) {
  std::ranges::sort(values);
  const auto at = [&](double share) {
    const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
    return values.empty() ? 0.0 : values[std::max<size_t>(rank, 1) - 1];
  };
  return {.p50 = at(0.5), .p90 = at(0.9), .p99 = at(0.99)};
}

}  // namespace tandem
