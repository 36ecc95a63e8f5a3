// Which ranks hold which experts, from how many tokens each expert gets. Pure functions, safe from
// any thread.
//
// An expert's tokens are shared evenly by its replicas. A token is served by a replica on its own
// node where there is one; tokens come from all nodes alike. So replicas on different nodes each
// serve as many tokens, and keep them from crossing nodes.
#pragma once

#include <span>
#include <vector>

namespace tandem {

// ranks[expert]: who holds it, ascending.
using ExpertRanks = std::vector<std::vector<int>>;

struct PlacementProblem {
  std::vector<double> loads;  // tokens of each expert
  int ranks = 1;
  int nodes = 1;  // equal numbers of consecutive ranks
  int slots = 0;  // in all; shared out evenly, the first ranks get what is left over
  // Tokens that go to both of two experts, [expert][expert]; may be empty.
  std::vector<std::vector<double>> coactivation;
  ExpertRanks current;  // today's; may be empty
};

struct Placement {
  ExpertRanks ranks;
  double max_over_mean = 1;              // of the ranks' tokens
  double max_over_mean_lower_bound = 1;  // no placement in as many slots is better balanced
  double internode_tokens = 0;           // copies sent to other nodes; see internode_tokens()
  int moved_experts = 0;                 // replicas on ranks that do not hold the expert today
};

// The largest rank load is made as small as possible, then copies between nodes, then moves.
// InputError for loads that are negative or no numbers, and for slots that cannot hold every
// expert.
Placement place_experts(const PlacementProblem& problem);

// One copy for each token and remote node. Of two experts of a token on the same remote node one is
// saved, as often as `coactivation` says; exact for top-2.
double internode_tokens(const PlacementProblem& problem, const ExpertRanks& ranks);
double max_over_mean(const PlacementProblem& problem, const ExpertRanks& ranks);

// How many replicas each expert gets: the largest load of a replica is as small as possible.
std::vector<int> replica_counts(std::span<const double> loads, int slots, int ranks);

}  // namespace tandem
