#include "tandem/planner/exchange_time.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tandem/comm/collectives.h"

namespace tandem {

double ExchangeTimes::all_to_all_seconds(const Stage& stage, double bytes) const {
  const double ranks = static_cast<double>(stage.attention.ranks.size());
  double slowest = 0;
  int last = -1;
  for (const int rank : stage.attention.ranks) {
    const int node = node_of(rank);
    if (node == last) continue;
    last = node;
    slowest = std::max(slowest,
                       all_to_all_seconds(cluster_.nodes[static_cast<size_t>(node)], ranks, bytes));
    if (cluster_.types.size() == 1) break;
  }
  return slowest;
}

double ExchangeTimes::all_to_all_seconds(const Node& node, double ranks, double bytes) const {
  const double per_node = static_cast<double>(node.devices.size());
  const double away = cluster_.nodes.size() > 1 ? 1 - per_node / cluster_.devices() : 0;
  double slowest = node.inside.bytes_per_second > 0
                       ? bytes / ranks / node.inside.bytes_per_second + node.inside.latency_seconds
                       : 0;
  if (away > 0) {
    const double nodes = std::max(1.0, ranks / per_node);
    const double nics = node.nic_per_device ? per_node : 1;
    slowest = std::max(slowest, bytes * away / nodes / (nics * node.nic.bytes_per_second) +
                                    node.nic.latency_seconds);
  }
  return slowest;
}

double ExchangeTimes::collective_seconds(const Stage& stage, double bytes) const {
  const AttentionGrid& grid = stage.attention;
  if (grid.groups() == 1) return 0;
  std::vector<int> members(static_cast<size_t>(grid.groups())), nodes;
  std::iota(members.begin(), members.end(), 0);
  for (const int member : members)
    nodes.push_back(node_of(grid.ranks[static_cast<size_t>(member)]));
  const bool two_steps = !members_by_node(members, nodes).members.empty();
  const double size = grid.groups();
  const double here = static_cast<double>(std::ranges::count(nodes, nodes[0]));
  const double shards = grid.batch_shards * grid.sequence_shards;
  const Node& node = cluster_.nodes[static_cast<size_t>(nodes[0])];
  const double own = bytes / shards;
  double inside = 0, across = 0;
  if (here > 1)  // what a member gets from its node's other members
    inside = own * (here - 1) / (two_steps ? here : size) / node.inside.bytes_per_second +
             node.inside.latency_seconds;
  if (here < size) {  // what comes to the node from others, for all shards that are on it
    const double teams =
        std::clamp(std::floor(static_cast<double>(node.devices.size()) / here), 1.0, shards);
    const double nics = node.nic_per_device ? teams * here : 1;
    across = teams * own * (size - here) / size * (two_steps ? 1 : here) /
                 (nics * node.nic.bytes_per_second) +
             node.nic.latency_seconds;
  }
  return two_steps ? inside + across : std::max(inside, across);
}

}  // namespace tandem
