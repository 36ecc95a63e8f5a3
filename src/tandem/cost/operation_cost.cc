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

double roofline_seconds(const OperationSpeed& speed, const Cost& cost, double crowding) {
  const double slowdown = 1 + (speed.crowded - 1) * crowding;
  const auto [shorter, longer] = std::minmax(
      {cost.flops / speed.flops_per_second, cost.bytes / speed.bytes_per_second * slowdown});
  return longer + (1 - speed.hidden) * shorter + speed.overhead_seconds;
}

double operation_seconds(const DeviceType& type, std::string_view operation, std::string_view dtype,
                         const Cost& cost, double crowding) {
  OperationSpeed speed{peak_flops_per_second(type, dtype) * type.compute_efficiency,
                       type.memory_bytes_per_second * type.memory_efficiency,
                       type.operation_overhead_seconds};
  const auto measured = type.operations.find(operation);
  if (measured != type.operations.end()) {
    const OperationSpeed& own = measured->second;
    if (own.flops_per_second > 0) speed.flops_per_second = own.flops_per_second;
    if (own.bytes_per_second > 0) speed.bytes_per_second = own.bytes_per_second;
    speed.overhead_seconds = own.overhead_seconds;
    speed.hidden = own.hidden;
    speed.crowded = own.crowded;
  }
  return roofline_seconds(speed, cost, crowding);
}

double floor_seconds(const DeviceType& type, std::string_view dtype, const Cost& cost) {
  return roofline_seconds({peak_flops_per_second(type, dtype), type.memory_bytes_per_second, 0},
                          cost);
}

}  // namespace tandem
