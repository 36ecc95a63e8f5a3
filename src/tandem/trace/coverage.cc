#include "tandem/trace/coverage.h"

#include <algorithm>
#include <utility>

namespace tandem {

std::vector<double> lane_coverage(std::span<const Span> spans, Lane lane, const TimeWindow& window,
                                  int64_t count) {
  std::vector<double> shares(count);
  if (!(window.seconds() > 0)) return shares;
  std::vector<std::pair<double, double>> pieces;
  const double piece_seconds = window.seconds() / static_cast<double>(count);
  for (const Span& span : spans) {
    if (span.lane != lane) continue;
    const double begin = (span.start_seconds - window.begin_seconds) / piece_seconds;
    const double end = (span.end_seconds - window.begin_seconds) / piece_seconds;
    pieces.emplace_back(std::max(0.0, begin), std::min(static_cast<double>(count), end));
  }
  std::ranges::sort(pieces);
  double covered_until = 0;
  for (const auto& [piece_begin, end] : pieces) {
    double begin = std::max(piece_begin, covered_until);
    while (begin < end) {
      const auto i = static_cast<int64_t>(begin);
      const double until = std::min(end, static_cast<double>(i + 1));
      shares[i] += until - begin;
      begin = until;
    }
    covered_until = std::max(covered_until, end);
  }
  return shares;
}

}  // namespace tandem
