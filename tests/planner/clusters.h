// What tests of the planner have in common.
#pragma once

#include "tandem/cluster/cluster.h"
#include "tandem/planner/workload.h"

namespace tandem::test {

inline constexpr WorkKind work_kinds[] = {WorkKind::decode, WorkKind::prefill, WorkKind::train};

// Four nodes of four devices.
inline Cluster small_cluster() {
  Cluster c;
  c.name = "small";
  c.types.push_back({.name = "device",
                     .flops_per_second = {{"bf16", 1e12}, {"f32", 5e11}},
                     .memory_bytes_per_second = 1e11,
                     .memory_bytes = 1e10,
                     .operation_overhead_seconds = 1e-6,
                     .idle_watts = 10,
                     .peak_watts = 100});
  c.nodes.assign(4, {.devices = {0, 0, 0, 0},
                     .inside = {.bytes_per_second = 1e11, .latency_seconds = 1e-6},
                     .nic = {.bytes_per_second = 1e10, .latency_seconds = 5e-6}});
  return c;
}

}  // namespace tandem::test
