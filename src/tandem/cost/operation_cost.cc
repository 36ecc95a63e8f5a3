#include "tandem/cost/operation_cost.h"

#include <algorithm>

namespace tandem {

double peak_flops_per_second(const DeviceType& type, std::string_view dtype) {
  constexpr std::string_view wider[] = {"fp8", "int8", "bf16", "f32"};
  bool seen = false;
  for (const std::string_view name : wider) {
    seen = seen || name == dtype;
    if (!seen) continue;
    const auto flops = type.flops_per_second.find(name);
    if (flops != type.flops_per_second.end()) return flops->second;
  }
  return type.flops_per_second.begin()->second;
}

double operation_seconds(const DeviceType& type, std::string_view operation, std::string_view dtype,
                         const Cost& cost) {
  double flops = peak_flops_per_second(type, dtype) * type.compute_efficiency;
  double bytes = type.memory_bytes_per_second * type.memory_efficiency;
  double overhead = type.operation_overhead_seconds;
  const auto measured = type.operations.find(operation);
  if (measured != type.operations.end()) {
    if (measured->second.flops_per_second > 0) flops = measured->second.flops_per_second;
    if (measured->second.bytes_per_second > 0) bytes = measured->second.bytes_per_second;
    overhead = measured->second.overhead_seconds;
  }
  return std::max(cost.flops / flops, cost.bytes / bytes) + overhead;
}

double floor_seconds(const DeviceType& type, std::string_view dtype, const Cost& cost) {
  return std::max(cost.flops / peak_flops_per_second(type, dtype),
                  cost.bytes / type.memory_bytes_per_second);
}

}  // namespace tandem
