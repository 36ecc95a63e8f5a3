#include "tandem/comm/sim/network.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

// Four nodes of two devices, two nodes a leaf.
Cluster cluster() {
  Cluster c;
  c.types.push_back({.name = "device"});
  const Node node{.devices = {0, 0},
                  .inside = {.bytes_per_second = 100, .latency_seconds = 1},
                  .nic = {.bytes_per_second = 10, .latency_seconds = 2}};
  c.nodes.assign(4, node);
  c.nodes_per_leaf = 2;
  c.oversubscription = 2;
  c.leaf_latency_seconds = 4;
  return c;
}

TEST(Network, OneMessageTakesLatencyAndBytesOverBandwidth) {
  Network network(cluster());
  EXPECT_DOUBLE_EQ(network.arrival_seconds(0, 1, 200, 5), 5 + 1 + 2);
  EXPECT_DOUBLE_EQ(network.arrival_seconds(2, 4, 200, 5), 5 + 2 + 4 + 20);  // between leaves
  EXPECT_DOUBLE_EQ(network.arrival_seconds(1, 3, 200, 5), 5 + 2 + 20);
  EXPECT_EQ(network.internode_bytes(), 400);
}

TEST(Network, MessagesThroughOneLinkTakeAsLongAsTheirSum) {
  Network network(cluster());
  double last = 0;
  for (const int from : {0, 1, 0, 1}) last = network.arrival_seconds(from, 2, 100, 0);
  EXPECT_DOUBLE_EQ(last, 4 * 10 + 2);  // both devices share the node's nic
}

TEST(Network, LeavesAreOversubscribed) {
  Network network(cluster());
  // Two nodes send to the other leaf: 2 * 10 / 2 = 10 bytes/s for both together.
  network.arrival_seconds(0, 4, 100, 0);
  EXPECT_DOUBLE_EQ(network.arrival_seconds(2, 6, 100, 0), 10 + 10 + 2 + 4);
}

TEST(Network, OverheadKeepsTheSendersLinkBusy) {
  Cluster c = cluster();
  c.message_overhead_seconds = 0.5;
  Network network(c);
  EXPECT_DOUBLE_EQ(network.arrival_seconds(0, 1, 0, 0), 0.5 + 0.5 + 1);
  EXPECT_DOUBLE_EQ(network.arrival_seconds(0, 1, 0, 0), 1 + 0.5 + 1);
}

}  // namespace
}  // namespace tandem
