// The search behind place_experts().
#pragma once

#include "tandem/base/interval.h"
#include "tandem/planner/placement.h"

namespace tandem {

// Small problems are searched through; in others replicas are dealt out, heaviest first, then
// swapped while that makes the fullest rank emptier, then swapped while that saves copies between
// nodes.
ExpertRanks search_placement(const PlacementProblem& problem, const std::vector<int>& counts);

// The same placement with nodes, and ranks within nodes, numbered so that little moves from
// today's.
ExpertRanks renumbered_like(const PlacementProblem& problem, const ExpertRanks& ranks);

}  // namespace tandem
