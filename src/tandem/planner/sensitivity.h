// Why a plan takes as long as it does: how much shorter its step is with one resource of the
// cluster made twice as fast. What helps most is what it is bound by. Used by one thread.
#pragma once

#include <string>
#include <vector>

#include "tandem/planner/simulation.h"

namespace tandem {

// "memory", "compute" (of every device type by its own name where there are several), "overheads",
// "links inside nodes", "links between nodes", "latencies": these names and no others.
struct Resource {
  std::string name;
  int type = -1;                                   // of the cluster; -1: of all, or of none
  std::string text(const Cluster& cluster) const;  // "memory of h20"
};
std::vector<Resource> resources(const Cluster& cluster);
// The cluster with so many times as much of it; overheads and latencies so many times as short.
Cluster scaled(Cluster cluster, const Resource& resource, double factor);

struct Sensitivity {
  std::string resource;
  double saved_share = 0;  // of the step, if twice as fast
};
// Most saved first.
std::vector<Sensitivity> sensitivities(const ModelConfig& model, const Plan& plan,
                                       const Cluster& cluster, const Workload& work,
                                       const SimulationSettings& settings);

// The cluster with one more device in the last node that has that type.
Cluster with_one_more(Cluster cluster, int type);

}  // namespace tandem
