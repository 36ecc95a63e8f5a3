#include "tandem/comm/sim/network.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

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
  EXPECT_DOUBLE_EQ(network.arrival(0, 1, 200, 5).seconds, 5 + 1 + 2);
  EXPECT_DOUBLE_EQ(network.arrival(2, 4, 200, 5).seconds, 5 + 2 + 4 + 20);  // between leaves
  EXPECT_DOUBLE_EQ(network.arrival(1, 3, 200, 5).seconds, 5 + 2 + 20);
  EXPECT_EQ(network.internode_bytes(), 400);
}

TEST(Network, MessagesThroughOneLinkTakeAsLongAsTheirSum) {
  Network network(cluster());
  double last = 0;
  for (const int from : {0, 1, 0, 1}) last = network.arrival(from, 2, 100, 0).seconds;
  EXPECT_DOUBLE_EQ(last, 4 * 10 + 2);  // both devices share the node's nic
}

TEST(Network, LeavesAreOversubscribed) {
  Network network(cluster());
  // Two nodes send to the other leaf: 2 * 10 / 2 = 10 bytes/s for both together.
  network.arrival(0, 4, 100, 0);
  EXPECT_DOUBLE_EQ(network.arrival(2, 6, 100, 0).seconds, 10 + 10 + 2 + 4);
}

TEST(Network, OverheadKeepsTheSendersLinkBusy) {
  Cluster c = cluster();
  c.message_overhead_seconds = 0.5;
  Network network(c);
  EXPECT_DOUBLE_EQ(network.arrival(0, 1, 0, 0).seconds, 0.5 + 0.5 + 1);
  EXPECT_DOUBLE_EQ(network.arrival(0, 1, 0, 0).seconds, 1 + 0.5 + 1);
}

// All pairs at once, each rank beginning with the next one: the time until the last has everything.
double all_to_all_seconds(const Cluster& cluster, int ranks, double bytes_each) {
  Network network(cluster);
  double last = 0;
  for (int shift = 1; shift < ranks; ++shift)
    for (int from = 0; from < ranks; ++from)
      last = std::max(
          last, network.arrival(from, (from + shift) % ranks, static_cast<int64_t>(bytes_each), 0)
                    .seconds);
  return last;
}

// DeepEP's low-latency kernels on H800 (its README, 2025): 128 tokens, hidden 7168, top-8, one copy
// a token and expert, FP8 dispatch with a scale for 128 numbers, BF16 combine. Data sheet speeds,
// and one overhead for every exchange, whatever its size and direction.
TEST(Network, ReproducesDeepEp) {
  constexpr double overhead_seconds = 40e-6;
  struct Row {
    int ranks;
    double dispatch_seconds, combine_seconds;
  };
  Cluster c = read_cluster(TANDEM_SOURCE_DIR "/configs/clusters/h800-32.yaml");
  c.nodes.resize(32, c.nodes[0]);
  for (const Row row : {Row{8, 77e-6, 114e-6},
                        {16, 118e-6, 195e-6},
                        {32, 155e-6, 273e-6},
                        {64, 173e-6, 314e-6},
                        {128, 192e-6, 369e-6},
                        {256, 194e-6, 360e-6}}) {
    const double rows = 128.0 * 8 / row.ranks;
    const double dispatch =
        all_to_all_seconds(c, row.ranks, rows * (7168 + 7168 / 128 * 4)) + overhead_seconds;
    const double combine = all_to_all_seconds(c, row.ranks, rows * 7168 * 2) + overhead_seconds;
    EXPECT_NEAR(dispatch / row.dispatch_seconds, 1, 0.25) << row.ranks;
    EXPECT_NEAR(combine / row.combine_seconds, 1, 0.25) << row.ranks;
    fmt::print("EP {}: dispatch {:.0f} us (published {:.0f}), combine {:.0f} us ({:.0f})\n",
               row.ranks, dispatch * 1e6, row.dispatch_seconds * 1e6, combine * 1e6,
               row.combine_seconds * 1e6);
  }
}

}  // namespace
}  // namespace tandem
