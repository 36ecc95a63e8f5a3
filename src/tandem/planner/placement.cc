#include "tandem/planner/placement.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "tandem/base/error.h"
#include "tandem/base/interval.h"
#include "tandem/planner/placement_search.h"

namespace tandem {
namespace {

void check(const PlacementProblem& p) {
  const auto experts = static_cast<int>(p.loads.size());
  if (experts == 0) throw InputError("no expert is given");
  for (int e = 0; e < experts; ++e)
    if (!(p.loads[static_cast<size_t>(e)] >= 0) || !std::isfinite(p.loads[static_cast<size_t>(e)]))
      throw InputError("expert {}: a load of {}", e, p.loads[static_cast<size_t>(e)]);
  if (p.ranks < 1 || p.nodes < 1 || p.ranks % p.nodes != 0)
    throw InputError("{} ranks cannot be shared out evenly over {} nodes", p.ranks, p.nodes);
  if (p.slots < experts) throw InputError("{} slots cannot hold {} experts", p.slots, experts);
  if (p.slots > experts * p.ranks)
    throw InputError("{} slots: {} experts on {} ranks fill {} at the most", p.slots, experts,
                     p.ranks, experts * p.ranks);
  if (!p.coactivation.empty() && p.coactivation.size() != p.loads.size())
    throw InputError("co-activation of {} experts, loads of {}", p.coactivation.size(), experts);
  for (const auto& row : p.coactivation)
    if (row.size() != p.loads.size())
      throw InputError("co-activation has a row of {} numbers for {} experts", row.size(), experts);
  if (!p.current.empty() && p.current.size() != p.loads.size())
    throw InputError("today's placement has {} experts, loads have {}", p.current.size(), experts);
}

int moved(const ExpertRanks& to, const ExpertRanks& from) {
  int count = 0;
  for (size_t e = 0; e < from.size(); ++e)
    for (const int rank : to[e]) count += std::ranges::find(from[e], rank) == from[e].end();
  return count;
}

bool is_valid(const PlacementProblem& p, const ExpertRanks& ranks) {
  std::vector<int> held(static_cast<size_t>(p.ranks));
  for (const auto& own : ranks) {
    if (own.empty()) return false;
    for (const int rank : own) {
      if (rank < 0 || rank >= p.ranks) return false;
      ++held[static_cast<size_t>(rank)];
    }
  }
  for (int rank = 0; rank < p.ranks; ++rank)
    if (held[static_cast<size_t>(rank)] > part(p.slots, p.ranks, rank).size()) return false;
  return true;
}

}  // namespace

std::vector<int> replica_counts(std::span<const double> loads, int slots, int ranks) {
  std::vector<int> counts(loads.size(), 1);
  using Entry =
      std::pair<double, int>;  // load of a replica, minus the expert: ties go to the first
  std::priority_queue<Entry> largest;
  for (size_t e = 0; e < loads.size(); ++e) largest.emplace(loads[e], -static_cast<int>(e));
  for (int left = slots - static_cast<int>(loads.size()); left > 0 && !largest.empty(); --left) {
    const auto e = static_cast<size_t>(-largest.top().second);
    largest.pop();
    ++counts[e];
    if (counts[e] < ranks) largest.emplace(loads[e] / counts[e], -static_cast<int>(e));
  }
  return counts;
}

double max_over_mean(const PlacementProblem& problem, const ExpertRanks& ranks) {
  std::vector<double> load(static_cast<size_t>(problem.ranks));
  for (size_t e = 0; e < ranks.size(); ++e)
    for (const int rank : ranks[e])
      load[static_cast<size_t>(rank)] += problem.loads[e] / static_cast<double>(ranks[e].size());
  const double mean = std::accumulate(load.begin(), load.end(), 0.0) / problem.ranks;
  return mean > 0 ? *std::ranges::max_element(load) / mean : 1;
}

double internode_tokens(const PlacementProblem& problem, const ExpertRanks& ranks) {
  const int nodes = problem.nodes, ranks_per_node = problem.ranks / nodes;
  const auto experts = ranks.size();
  // share[e][n]: of the tokens of a node without e, those that node n serves.
  std::vector<std::vector<double>> share(experts, std::vector<double>(static_cast<size_t>(nodes)));
  std::vector<int> nodes_of(experts);
  for (size_t e = 0; e < experts; ++e) {
    for (const int rank : ranks[e])
      share[e][static_cast<size_t>(rank / ranks_per_node)] +=
          1 / static_cast<double>(ranks[e].size());
    nodes_of[e] = static_cast<int>(std::ranges::count_if(share[e], [](double s) { return s > 0; }));
  }
  double copies = 0;
  for (size_t e = 0; e < experts; ++e) copies += problem.loads[e] * (nodes - nodes_of[e]) / nodes;
  if (problem.coactivation.empty()) return copies;
  for (size_t a = 0; a < experts; ++a)
    for (size_t b = a + 1; b < experts; ++b) {
      double together = 0;  // of source and serving node, both experts remote and on one node
      for (size_t n = 0; n < static_cast<size_t>(nodes); ++n) {
        int without = 0;
        for (size_t s = 0; s < static_cast<size_t>(nodes); ++s)
          without += share[a][s] == 0 && share[b][s] == 0;
        together += share[a][n] * share[b][n] * without / nodes;
      }
      copies -= problem.coactivation[a][b] * together;
    }
  return copies;
}

Placement place_experts(const PlacementProblem& problem) {
  check(problem);
  const std::vector<int> counts = replica_counts(problem.loads, problem.slots, problem.ranks);
  double largest = 0;
  for (size_t e = 0; e < counts.size(); ++e)
    largest = std::max(largest, problem.loads[e] / counts[e]);
  const double mean =
      std::accumulate(problem.loads.begin(), problem.loads.end(), 0.0) / problem.ranks;

  Placement result;
  result.max_over_mean_lower_bound = mean > 0 ? std::max(1.0, largest / mean) : 1;
  result.ranks = search_placement(problem, counts);
  if (!problem.current.empty()) {
    // What is balanced as well stays where it is.
    const double best = max_over_mean(problem, result.ranks);
    if (is_valid(problem, problem.current) &&
        max_over_mean(problem, problem.current) <= best * (1 + 1e-9) &&
        internode_tokens(problem, problem.current) <= internode_tokens(problem, result.ranks))
      result.ranks = problem.current;
    else
      result.ranks = renumbered_like(problem, result.ranks);
  }
  for (auto& ranks : result.ranks) std::ranges::sort(ranks);
  result.max_over_mean = max_over_mean(problem, result.ranks);
  result.internode_tokens = internode_tokens(problem, result.ranks);
  result.moved_experts = moved(result.ranks, problem.current);
  return result;
}

}  // namespace tandem
