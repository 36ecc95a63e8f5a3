#include "tandem/planner/sensitivity.h"

#include <algorithm>

namespace tandem {
namespace {

constexpr const char* memory_speed = "memory";
constexpr const char* compute_speed = "compute";
constexpr const char* overheads = "overheads";
constexpr const char* inside = "links inside nodes";
constexpr const char* between = "links between nodes";
constexpr const char* latencies = "latencies";

void scale_type(DeviceType& type, const std::string& name, double factor) {
  if (name == memory_speed) type.memory_bytes_per_second *= factor;
  if (name == overheads) type.operation_overhead_seconds /= factor;
  if (name == compute_speed)
    for (auto& [dtype, flops] : type.flops_per_second) flops *= factor;
  for (auto& [operation, speed] : type.operations) {
    if (name == memory_speed) speed.bytes_per_second *= factor;
    if (name == overheads) speed.overhead_seconds /= factor;
    if (name == compute_speed) speed.flops_per_second *= factor;
  }
}

}  // namespace

std::string Resource::text(const Cluster& cluster) const {
  return type < 0 ? name : name + " of " + cluster.types[static_cast<size_t>(type)].name;
}

std::vector<Resource> resources(const Cluster& cluster) {
  std::vector<Resource> all;
  for (const char* name : {memory_speed, compute_speed}) {
    if (cluster.types.size() == 1) {
      all.push_back({name});
      continue;
    }
    for (int type = 0; type < std::ssize(cluster.types); ++type) all.push_back({name, type});
  }
  for (const char* name : {overheads, inside, between, latencies}) all.push_back({name});
  return all;
}

Cluster scaled(Cluster cluster, const Resource& resource, double factor) {
  for (int type = 0; type < std::ssize(cluster.types); ++type)
    if (resource.type < 0 || resource.type == type)
      scale_type(cluster.types[static_cast<size_t>(type)], resource.name, factor);
  for (Node& node : cluster.nodes) {
    if (resource.name == inside) node.inside.bytes_per_second *= factor;
    if (resource.name == between) node.nic.bytes_per_second *= factor;
    if (resource.name == latencies)
      node.inside.latency_seconds /= factor, node.nic.latency_seconds /= factor;
  }
  if (resource.name == latencies)
    cluster.leaf_latency_seconds /= factor, cluster.message_overhead_seconds /= factor;
  return cluster;
}

std::vector<Sensitivity> sensitivities(const ModelConfig& model, const Plan& plan,
                                       const Cluster& cluster, const Workload& work,
                                       const SimulationSettings& settings) {
  const auto seconds = [&](const Cluster& on) {
    return simulate(model, plan, on, work, settings).step_seconds;
  };
  const double now = seconds(cluster);
  std::vector<Sensitivity> all;
  for (const Resource& resource : resources(cluster))
    all.push_back({resource.text(cluster), 1 - seconds(scaled(cluster, resource, 2)) / now});
  std::ranges::stable_sort(all, std::greater(), &Sensitivity::saved_share);
  return all;
}

Cluster with_one_more(Cluster cluster, int type) {
  const auto node = std::find_if(cluster.nodes.rbegin(), cluster.nodes.rend(), [&](const Node& n) {
    return std::ranges::find(n.devices, type) != n.devices.end();
  });
  TANDEM_CHECK(node != cluster.nodes.rend(), "no device of type {}", type);
  node->devices.insert(std::ranges::find(node->devices, type), type);
  return cluster;
}

}  // namespace tandem
