// Figures of a simulated run by name, each with the range in which it can be at all: below a floor
// no step is, and no rank holds more than its device has. Pure functions, safe from any thread.
#pragma once

#include <limits>
#include <string>

#include "tandem/planner/simulation.h"

namespace tandem {

struct Figure {
  double value = 0;  // seconds, bytes, joules, tokens/s, shares
  double least = 0, most = std::numeric_limits<double>::infinity();
  const char* limit = "";  // what the range follows from
};

// step_seconds, tokens_per_second, tokens_per_second_per_rank, utilisation, bandwidth_share,
// flops_share, communication.KIND (experts: dispatch and combine; all:
// overlaps count once), waiting, memory.COMPONENT, memory.all,
// joules_per_token, expert_share_deviation, expert_max_over_min, attention_over_expert_seconds.
Figure figure_of(const std::string& metric, const Prediction& prediction, const Workload& work);

// InputError where it is none of these.
void check_metric(const std::string& metric, const std::string& where);
// What one of a unit is in the above: "ms", "%", "GB", ...; InputError.
double unit_of(const std::string& unit, const std::string& where);

}  // namespace tandem
