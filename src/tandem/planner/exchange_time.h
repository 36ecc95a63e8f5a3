// How long ranks of a stage exchange rows, in closed form. Pure functions, safe from any thread.
#pragma once

#include "tandem/cluster/cluster.h"
#include "tandem/plan/plan.h"

namespace tandem {

class ExchangeTimes {
 public:
  // Rank r of the copy sits on device first_device + r.
  ExchangeTimes(const Cluster& cluster, int first_device)
      : cluster_(cluster), first_device_(first_device) {}

  // So many bytes from all attention ranks of a stage together to ranks anywhere: what leaves a
  // node at its links, the slowest of the nodes that the stage is on.
  double all_to_all_seconds(const Stage& stage, double bytes) const;
  // Rows of so many bytes, of all shards of the stage, gathered by the head groups of each shard,
  // or summed and scattered: in one step, or inside the nodes and across them, as
  // comm/collectives.h does it. Told by the first shard.
  double collective_seconds(const Stage& stage, double bytes) const;

 private:
  double all_to_all_seconds(const Node& node, double ranks, double bytes) const;
  int node_of(int rank) const { return cluster_.node_of(first_device_ + rank); }

  const Cluster& cluster_;
  int first_device_;
};

}  // namespace tandem
