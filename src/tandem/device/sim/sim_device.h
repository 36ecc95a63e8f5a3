// A device of a described cluster: operations take the time that the cost model says, tensors are
// shapes without numbers. What a rank program must know nevertheless (which experts a token goes
// to) comes from the workload.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tandem/cluster/cluster.h"
#include "tandem/cluster/pace.h"
#include "tandem/device/device.h"

namespace tandem {

// The experts of one token in one layer, distinct, into `experts`. The same call gives the same
// answer, whichever rank asks.
using Routing = std::function<void(int64_t layer, uint64_t token_key, std::span<int32_t> experts)>;

// For an operation, by its name: the share of the node's other devices that is busy meanwhile.
using Crowding = std::map<std::string, double, std::less<>>;

// `clock_seconds` is the rank's; operations move it on, at the given pace. All references must
// outlive the device.
std::unique_ptr<Device> make_sim_device(const DeviceType& type, const Routing& routing,
                                        double& clock_seconds, Pace pace = {},
                                        Crowding crowding = {});

}  // namespace tandem
