#include <algorithm>

#include "tandem/base/yaml.h"
#include "tandem/cluster/cluster.h"

namespace tandem {
namespace {

double share_or_zero(const YamlMap& map, const char* key) {
  const double value = map.not_negative(key, 1);
  if (value > 1) throw InputError("{}: {} is not a share between 0 and 1", map.path(key), value);
  return value;
}

double share(const YamlMap& map, const char* key) {
  const double value = share_or_zero(map, key);
  if (value == 0) throw InputError("{}: a share of 0", map.path(key));
  return value;
}

double slowdown(const YamlMap& map, const char* key) {
  const double value = map.not_negative(key, 1);
  if (value < 1) throw InputError("{}: {} is below 1", map.path(key), value);
  return value;
}

DeviceType parse_type(const std::string& name, const YAML::Node& node, const std::string& where) {
  const YamlMap map(node, where,
                    {"flops_per_second", "memory_bytes_per_second", "memory_bytes",
                     "compute_efficiency", "memory_efficiency", "operation_overhead_seconds",
                     "operations", "idle_watts", "peak_watts", "price_per_hour"});
  DeviceType type{.name = name,
                  .memory_bytes_per_second = map.positive("memory_bytes_per_second"),
                  .memory_bytes = map.positive("memory_bytes"),
                  .compute_efficiency = share(map, "compute_efficiency"),
                  .memory_efficiency = share(map, "memory_efficiency"),
                  .operation_overhead_seconds = map.not_negative("operation_overhead_seconds", 0),
                  .idle_watts = map.not_negative("idle_watts", 0),
                  .peak_watts = map.not_negative("peak_watts", 0),
                  .price_per_hour = map.not_negative("price_per_hour", 0)};
  const YamlMap flops(map.field("flops_per_second"), map.path("flops_per_second"),
                      {"bf16", "f32", "fp8", "int8"});
  for (const char* dtype : {"bf16", "f32", "fp8", "int8"})
    if (flops.has(dtype)) type.flops_per_second[dtype] = flops.positive(dtype);
  if (type.flops_per_second.empty()) throw InputError("{}: no dtype is given", flops.where());
  if (!map.has("operations")) return type;
  for (const auto& entry : map.field("operations")) {
    const auto operation = entry.first.as<std::string>();
    const YamlMap speed(
        entry.second, map.path("operations") + ", " + operation,
        {"flops_per_second", "bytes_per_second", "overhead_seconds", "hidden", "crowded"});
    type.operations[operation] = {.flops_per_second = speed.not_negative("flops_per_second", 0),
                                  .bytes_per_second = speed.not_negative("bytes_per_second", 0),
                                  .overhead_seconds = speed.not_negative("overhead_seconds", 0),
                                  .hidden = share_or_zero(speed, "hidden"),
                                  .crowded = slowdown(speed, "crowded")};
  }
  return type;
}

Link parse_link(const YamlMap& node, const char* key) {
  const YamlMap map(node.field(key), node.path(key),
                    {"bytes_per_second", "latency_seconds", "per_device"});
  return {.bytes_per_second = map.positive("bytes_per_second"),
          .latency_seconds = map.not_negative("latency_seconds", 0)};
}

int count_of(const YamlMap& map) {
  const int count = map.get<int>("count", 1);
  if (count < 1 || count > 100'000)
    throw InputError("{}: {} is no count", map.path("count"), count);
  return count;
}

// A node with one device has no link inside, a single node needs none outside.
Node parse_node(const YamlMap& map, const Cluster& cluster) {
  Node node;
  const YAML::Node devices = map.list("devices");
  for (size_t i = 0; i < devices.size(); ++i) {
    const YamlMap device(devices[i], fmt::format("{}, device {}", map.where(), i),
                         {"type", "count"});
    const auto name = device.get<std::string>("type");
    const auto type = std::ranges::find(cluster.types, name, &DeviceType::name);
    if (type == cluster.types.end())
      throw InputError("{}: no device type '{}'", device.path("type"), name);
    const auto index = static_cast<int>(type - cluster.types.begin());
    node.devices.insert(node.devices.end(), static_cast<size_t>(count_of(device)), index);
  }
  if (node.devices.empty()) throw InputError("{}: a node without devices", map.where());
  if (map.has("inside")) node.inside = parse_link(map, "inside");
  if (map.has("nic")) {
    node.nic = parse_link(map, "nic");
    node.nic_per_device = map.field("nic")["per_device"].IsDefined() &&
                          YamlMap::convert<bool>(map.field("nic")["per_device"], map.path("nic"));
  }
  if (map.has("storage_bytes_per_second"))
    node.storage_bytes_per_second = map.positive("storage_bytes_per_second");
  if (node.devices.size() > 1 && node.inside.bytes_per_second == 0)
    throw InputError("{}: {} devices and no route between them ('inside' is missing)", map.where(),
                     node.devices.size());
  return node;
}

void emit_link(YAML::Emitter& out, const char* key, const Link& link, bool per_device) {
  if (link.bytes_per_second == 0) return;
  out << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginMap << YAML::Key
      << "bytes_per_second" << YAML::Value << link.bytes_per_second << YAML::Key
      << "latency_seconds" << YAML::Value << link.latency_seconds;
  if (per_device) out << YAML::Key << "per_device" << YAML::Value << true;
  out << YAML::EndMap;
}

void emit_type(YAML::Emitter& out, const DeviceType& type) {
  const auto number = [&](const char* key, double value) {
    out << YAML::Key << key << YAML::Value << value;
  };
  out << YAML::Key << type.name << YAML::Value << YAML::BeginMap << YAML::Key << "flops_per_second"
      << YAML::Value << YAML::Flow << YAML::BeginMap;
  for (const auto& [dtype, flops] : type.flops_per_second) number(dtype.c_str(), flops);
  out << YAML::EndMap;
  number("memory_bytes_per_second", type.memory_bytes_per_second);
  number("memory_bytes", type.memory_bytes);
  number("compute_efficiency", type.compute_efficiency);
  number("memory_efficiency", type.memory_efficiency);
  number("operation_overhead_seconds", type.operation_overhead_seconds);
  number("idle_watts", type.idle_watts);
  number("peak_watts", type.peak_watts);
  number("price_per_hour", type.price_per_hour);
  if (!type.operations.empty()) {
    out << YAML::Key << "operations" << YAML::Value << YAML::BeginMap;
    for (const auto& [name, speed] : type.operations) {
      out << YAML::Key << name << YAML::Value << YAML::Flow << YAML::BeginMap;
      number("flops_per_second", speed.flops_per_second);
      number("bytes_per_second", speed.bytes_per_second);
      number("overhead_seconds", speed.overhead_seconds);
      number("hidden", speed.hidden);
      number("crowded", speed.crowded);
      out << YAML::EndMap;
    }
    out << YAML::EndMap;
  }
  out << YAML::EndMap;
}

}  // namespace

Cluster parse_cluster(const std::string& yaml, const std::string& where) {
  const YamlMap map(parse_yaml(yaml, where), where,
                    {"name", "devices", "nodes", "nodes_per_leaf", "oversubscription",
                     "leaf_latency_seconds", "message_overhead_seconds"});
  Cluster cluster{.name = map.get<std::string>("name", where),
                  .nodes_per_leaf = map.get<int>("nodes_per_leaf", 0),
                  .oversubscription = map.not_negative("oversubscription", 1),
                  .leaf_latency_seconds = map.not_negative("leaf_latency_seconds", 0),
                  .message_overhead_seconds = map.not_negative("message_overhead_seconds", 0)};
  if (cluster.nodes_per_leaf < 0)
    throw InputError("{}: {} is below zero", map.path("nodes_per_leaf"), cluster.nodes_per_leaf);
  if (cluster.oversubscription < 1)
    throw InputError("{}: {} is below 1", map.path("oversubscription"), cluster.oversubscription);
  const YAML::Node types = map.field("devices");
  if (!types.IsMap()) throw InputError("{}: expected a map of types", map.path("devices"));
  for (const auto& entry : types) {
    const auto name = entry.first.as<std::string>();
    cluster.types.push_back(parse_type(name, entry.second, map.path("devices") + ", " + name));
  }
  const YAML::Node nodes = map.list("nodes");
  for (size_t i = 0; i < nodes.size(); ++i) {
    const YamlMap node(nodes[i], fmt::format("{}, node {}", where, i),
                       {"count", "devices", "inside", "nic", "storage_bytes_per_second"});
    const Node one = parse_node(node, cluster);
    cluster.nodes.insert(cluster.nodes.end(), static_cast<size_t>(count_of(node)), one);
  }
  if (cluster.nodes.empty()) throw InputError("{}: no node", map.path("nodes"));
  if (cluster.nodes.size() > 1)
    for (size_t i = 0; i < cluster.nodes.size(); ++i)
      if (cluster.nodes[i].nic.bytes_per_second == 0)
        throw InputError("{}: node {} has no route to the others ('nic' is missing)", where, i);
  return cluster;
}

Cluster read_cluster(const std::filesystem::path& file) {
  return parse_cluster(read_text(file), file.string());
}

std::string cluster_yaml(const Cluster& cluster) {
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "name" << YAML::Value << cluster.name;
  out << YAML::Key << "devices" << YAML::Value << YAML::BeginMap;
  for (const DeviceType& type : cluster.types) emit_type(out, type);
  out << YAML::EndMap << YAML::Key << "nodes" << YAML::Value << YAML::BeginSeq;
  for (const Node& node : cluster.nodes) {
    out << YAML::BeginMap << YAML::Key << "devices" << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const int type : node.devices)
      out << YAML::Flow << YAML::BeginMap << YAML::Key << "type" << YAML::Value
          << cluster.types[static_cast<size_t>(type)].name << YAML::EndMap;
    out << YAML::EndSeq;
    emit_link(out, "inside", node.inside, false);
    emit_link(out, "nic", node.nic, node.nic_per_device);
    if (node.storage_bytes_per_second > 0)
      out << YAML::Key << "storage_bytes_per_second" << YAML::Value
          << node.storage_bytes_per_second;
    out << YAML::EndMap;
  }
  out << YAML::EndSeq;
  out << YAML::Key << "nodes_per_leaf" << YAML::Value << cluster.nodes_per_leaf;
  out << YAML::Key << "oversubscription" << YAML::Value << cluster.oversubscription;
  out << YAML::Key << "leaf_latency_seconds" << YAML::Value << cluster.leaf_latency_seconds;
  out << YAML::Key << "message_overhead_seconds" << YAML::Value << cluster.message_overhead_seconds;
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

}  // namespace tandem
