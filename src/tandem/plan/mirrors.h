// Who could stand in for a rank.
#pragma once

#include <vector>

#include "tandem/plan/plan.h"

namespace tandem {

// Ranks that hold the same K/V as an attention rank: its other sequence shards.
std::vector<int> mirrors_of(const Plan& plan, int rank);

// Ranks of the same copy and stage that hold an expert which this one holds.
std::vector<int> replicas_of(const Plan& plan, int rank);

}  // namespace tandem
