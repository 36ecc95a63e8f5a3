// Who computes while others of the same node do: such operations are slowed by one another
// (OperationSpeed::crowded). A pure function, safe from any thread.
#pragma once

#include <vector>

#include "tandem/device/sim/sim_device.h"
#include "tandem/trace/metrics.h"

namespace tandem {

// For each rank and operation: of the other devices of its node, the share that was busy meanwhile,
// in the mean over the operation's time. `devices` says where each rank sits.
std::vector<Crowding> crowding_of(const std::vector<RankSpans>& ranks, const Cluster& cluster,
                                  const std::vector<int>& devices);

}  // namespace tandem
