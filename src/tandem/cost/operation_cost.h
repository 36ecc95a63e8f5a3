// Seconds of an operation on a device of a cluster: a roofline with efficiencies and an overhead.
#pragma once

#include <string_view>

#include "tandem/cluster/cluster.h"
#include "tandem/trace/span.h"

namespace tandem {

// Computing takes FLOPs / flops_per_second, reading and writing bytes / bytes_per_second: the
// longer of both, what does not hide of the shorter, and the overhead. `crowding`: how many of the
// node's other devices are busy as well, as a share; they read from the same memory.
double roofline_seconds(const OperationSpeed& speed, const Cost& cost, double crowding = 0);

// max(FLOPs / (peak * efficiency), bytes / (bandwidth * efficiency)) + overhead. What was measured
// of this operation takes the place of all of that. A dtype that the type does not list is computed
// as the next wider one that it does.
double operation_seconds(const DeviceType& type, std::string_view operation, std::string_view dtype,
                         const Cost& cost, double crowding = 0);

// FLOP/s of a dtype at the best.
double peak_flops_per_second(const DeviceType& type, std::string_view dtype);

// The same without overheads and efficiencies: no program can be faster.
double floor_seconds(const DeviceType& type, std::string_view dtype, const Cost& cost);

}  // namespace tandem
