#include "tandem/cluster/cluster.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "tandem/base/error.h"

namespace tandem {
namespace {

const char* const two_nodes = R"(
devices:
  big: {flops_per_second: {bf16: 100, f32: 50}, memory_bytes_per_second: 10, memory_bytes: 1000}
  small: {flops_per_second: {f32: 5}, memory_bytes_per_second: 1, memory_bytes: 100}
nodes:
  - devices: [{type: big, count: 2}, {type: small}]
    inside: {bytes_per_second: 300, latency_seconds: 2e-6}
    nic: {bytes_per_second: 25}
  - devices: [{type: small}]
    nic: {bytes_per_second: 25, per_device: true}
)";

std::string refusal(std::string yaml, const std::string& from, const std::string& to) {
  const size_t at = yaml.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  yaml.replace(at, from.size(), to);
  try {
    parse_cluster(yaml, "file");
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Cluster, NumbersDevicesThroughNodes) {
  const Cluster cluster = parse_cluster(two_nodes, "file");
  ASSERT_EQ(cluster.devices(), 4);
  EXPECT_EQ(cluster.type_of(1).name, "big");
  EXPECT_EQ(cluster.type_of(2).name, "small");
  EXPECT_EQ(cluster.node_of(2), 0);
  EXPECT_EQ(cluster.node_of(3), 1);
  EXPECT_FALSE(cluster.has_device(4));
}

TEST(Cluster, PrintsWhatItReads) {
  Cluster cluster = parse_cluster(two_nodes, "file");
  EXPECT_FALSE(cluster.crowds());
  cluster.types[0].operations["linear"] = {2e11, 1e10, 4e-6, 0, 1.5};
  EXPECT_TRUE(cluster.crowds());
  const std::string text = cluster_yaml(cluster);
  EXPECT_EQ(cluster_yaml(parse_cluster(text, "again")), text);
}

TEST(Cluster, EveryShippedFileIsRead) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/configs/clusters")) {
    EXPECT_GT(read_cluster(entry.path()).devices(), 0) << entry.path();
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(Cluster, RefusesWhatMakesNoSense) {
  EXPECT_EQ(refusal(two_nodes, "{f32: 5}", "{f32: 0}"),
            "file, devices, small, flops_per_second, f32: 0 must be above zero");
  EXPECT_EQ(refusal(two_nodes, "bytes_per_second: 300", "bytes_per_second: 0"),
            "file, node 0, inside, bytes_per_second: 0 must be above zero");
  EXPECT_EQ(refusal(two_nodes, "    nic: {bytes_per_second: 25, per_device: true}\n", ""),
            "file: node 1 has no route to the others ('nic' is missing)");
  EXPECT_EQ(refusal(two_nodes, "    inside: {bytes_per_second: 300, latency_seconds: 2e-6}\n", ""),
            "file, node 0: 3 devices and no route between them ('inside' is missing)");
  EXPECT_EQ(refusal(two_nodes, "type: small}]\n    nic", "type: tiny}]\n    nic"),
            "file, node 1, device 0, type: no device type 'tiny'");
  EXPECT_EQ(refusal(two_nodes, "memory_bytes: 100}",
                    "memory_bytes: 100, operations: {norm: {crowded: 0.5}}}"),
            "file, devices, small, operations, norm, crowded: 0.5 is below 1");
  EXPECT_EQ(refusal(two_nodes, "memory_bytes: 100}",
                    "memory_bytes: 100, operations: {norm: {hidden: 1.5}}}"),
            "file, devices, small, operations, norm, hidden: 1.5 is not a share between 0 and 1");
  EXPECT_EQ(refusal(two_nodes, "memory_bytes: 100}", "memory_bytes: 100, memory_efficiency: 0}"),
            "file, devices, small, memory_efficiency: a share of 0");
  EXPECT_EQ(refusal(two_nodes, "memory_bytes: 100}", "memory_bytes: .nan}"),
            "file, devices, small, memory_bytes: nan must be above zero");
  EXPECT_EQ(refusal(two_nodes, "nodes:", "node:").substr(0, 32),
            "file: 'node' is not a field (kno");
}

}  // namespace
}  // namespace tandem
