// How much of each moment a rank spends in a lane: what a timeline draws. A pure function.
#pragma once

#include <span>
#include <vector>

#include "tandem/trace/metrics.h"

namespace tandem {

// Share of each of `count` equal pieces of the window that the spans of a lane cover; what several
// spans cover counts once. Zeros for an empty window.
std::vector<double> lane_coverage(std::span<const Span> spans, Lane lane, const TimeWindow& window,
                                  int64_t count);

}  // namespace tandem
