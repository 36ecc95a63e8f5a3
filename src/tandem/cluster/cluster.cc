#include "tandem/cluster/cluster.h"

#include <algorithm>

#include "tandem/base/error.h"

namespace tandem {

int Cluster::devices() const {
  size_t count = 0;
  for (const Node& node : nodes) count += node.devices.size();
  return static_cast<int>(count);
}

int Cluster::node_of(int device) const {
  for (size_t node = 0; node < nodes.size(); ++node) {
    const auto count = static_cast<int>(nodes[node].devices.size());
    if (device < count) return static_cast<int>(node);
    device -= count;
  }
  TANDEM_CHECK(false, "device {} of {}", device, devices());
}

const DeviceType& Cluster::type_of(int device) const {
  for (const Node& node : nodes) {
    const auto count = static_cast<int>(node.devices.size());
    if (device < count)
      return types[static_cast<size_t>(node.devices[static_cast<size_t>(device)])];
    device -= count;
  }
  TANDEM_CHECK(false, "device {} of {}", device, devices());
}

bool Cluster::crowds() const {
  return std::ranges::any_of(types, [](const DeviceType& type) {
    return std::ranges::any_of(type.operations,
                               [](const auto& named) { return named.second.crowded > 1; });
  });
}

}  // namespace tandem
