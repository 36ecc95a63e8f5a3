// What a cluster is made of: device types, nodes, links. Plain data, read from YAML
// (docs/clusters.md); safe to read from any thread once made.
//
//   device -- node's switch -- device        `inside`: one link a device, each way
//   node (or device) -- leaf -- other node   `nic`
//   leaf -- core -- other leaf               nodes_per_leaf * nic / oversubscription, each way
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tandem {

// What one operation was measured to reach, where that is known; 0: what the device can do at most.
struct OperationSpeed {
  double flops_per_second = 0;
  double bytes_per_second = 0;
  double overhead_seconds = 0;
  double hidden = 1;   // share of the shorter of computing and reading that hides behind the longer
  double crowded = 1;  // so many times as long for bytes while all others of the node are busy
};

struct DeviceType {
  std::string name;
  std::map<std::string, double, std::less<>> flops_per_second;  // by dtype: bf16, f32, fp8, int8
  double memory_bytes_per_second = 0;
  double memory_bytes = 0;
  // Shares of the above that whole programs reach, and what starting an operation costs.
  double compute_efficiency = 1, memory_efficiency = 1;
  double operation_overhead_seconds = 0;
  std::map<std::string, OperationSpeed, std::less<>> operations;  // by the name in spans
  double idle_watts = 0, peak_watts = 0;
  double price_per_hour = 0;
};

// One way; the other way has as much of its own.
struct Link {
  double bytes_per_second = 0;
  double latency_seconds = 0;
};

struct Node {
  std::vector<int> devices;  // their types, by index in Cluster::types
  Link inside;
  Link nic;
  bool nic_per_device = false;
  double storage_bytes_per_second = 0;  // its devices read weights with; 0: that takes no time
};

struct Cluster {
  std::string name;
  std::vector<DeviceType> types;
  std::vector<Node> nodes;
  int nodes_per_leaf = 0;  // 0: all nodes on one leaf
  double oversubscription = 1;
  double leaf_latency_seconds = 0;      // added where a message crosses leaves
  double message_overhead_seconds = 0;  // a sender's time for each message

  int devices() const;
  bool has_device(int device) const { return device >= 0 && device < devices(); }
  // Devices are numbered through all nodes in order.
  int node_of(int device) const;
  const DeviceType& type_of(int device) const;
  // Some operations take longer while other devices of their node are busy.
  bool crowds() const;
  int leaf_of(int node) const { return nodes_per_leaf > 0 ? node / nodes_per_leaf : 0; }
};

// InputError naming file and field.
Cluster parse_cluster(const std::string& yaml, const std::string& where);
Cluster read_cluster(const std::filesystem::path& file);
std::string cluster_yaml(const Cluster& cluster);

}  // namespace tandem
