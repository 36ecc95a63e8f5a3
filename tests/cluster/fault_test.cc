#include "tandem/cluster/fault.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"
#include "tandem/cluster/cluster.h"

namespace tandem {
namespace {

TEST(Pace, StretchesWhatIsLeftToDo) {
  Pace pace;
  EXPECT_EQ(pace.end_seconds(1, 2), 3);
  pace.change(2, 4);
  EXPECT_EQ(pace.end_seconds(0, 2), 2);
  EXPECT_EQ(pace.end_seconds(1, 2), 2 + 4);  // half of it before
  EXPECT_EQ(pace.end_seconds(5, 2), 5 + 8);
  pace.change(6, 1);
  EXPECT_EQ(pace.end_seconds(1, 3), 6 + 1);  // slow in between
  EXPECT_EQ(pace.stop_seconds(), Pace::never);
  pace.change(10, Pace::never);
  EXPECT_EQ(pace.end_seconds(7, 2), 9);
  EXPECT_EQ(pace.end_seconds(7, 4), Pace::never);
  EXPECT_EQ(pace.end_seconds(11, 0), Pace::never);
  EXPECT_EQ(pace.stop_seconds(), 10);
}

TEST(Fault, IsReadFromText) {
  const Fault slow = parse_fault("device:7,at=2e-3,slow=4");
  EXPECT_EQ(slow.of, Fault::Of::device);
  EXPECT_EQ(slow.number, 7);
  EXPECT_EQ(slow.at_seconds, 2e-3);
  EXPECT_EQ(slow.slow, 4);
  EXPECT_FALSE(slow.fails());
  const Fault failing = parse_fault("link:node0-node1");
  EXPECT_EQ(failing.of, Fault::Of::route);
  EXPECT_EQ(failing.number, 0);
  EXPECT_EQ(failing.other, 1);
  EXPECT_EQ(failing.at_seconds, 0);
  EXPECT_TRUE(failing.fails());
  EXPECT_EQ(parse_fault("rank:0").of, Fault::Of::rank);
  EXPECT_EQ(parse_fault("link:device3").of, Fault::Of::device_link);
  EXPECT_EQ(parse_fault("link:node3").of, Fault::Of::node_link);
  EXPECT_EQ(parse_fault("link:leaf3").of, Fault::Of::leaf_link);
}

std::string refusal(const std::string& text) {
  Cluster cluster{.name = "two"};
  cluster.types.push_back({.name = "device"});
  cluster.nodes.assign(2, {.devices = {0}, .nic = {.bytes_per_second = 1}});
  try {
    check(parse_fault(text), cluster, 1);
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Fault, NamesWhatIsWrong) {
  const std::string expected =
      ": expected rank:N, device:N, link:deviceN, link:nodeN, link:leafN or link:nodeN-nodeM, then "
      "at=SECONDS and slow=FACTOR";
  for (const char* text : {"", "disk:1", "rank:", "rank:-1", "rank:1x", "link:node0-device1",
                           "link:0-1", "link:node0-", "node:1", "rank:99999999999"})
    EXPECT_EQ(refusal(text), "fault '" + std::string(text) + "'" + expected);
  EXPECT_EQ(refusal("rank:0,when=1"),
            "fault 'rank:0,when=1': 'when=1' is neither at=SECONDS nor slow=FACTOR");
  EXPECT_EQ(refusal("rank:0,"), "fault 'rank:0,': '' is neither at=SECONDS nor slow=FACTOR");
  for (const char* pair : {"slow=0.5", "slow=inf", "slow=nan", "slow=", "slow=2x", "slow"})
    EXPECT_EQ(refusal(std::string("rank:0,") + pair),
              fmt::format("fault 'rank:0,{0}': '{0}' must be a number of at least 1", pair));
  EXPECT_EQ(refusal("rank:0,at=-1"),
            "fault 'rank:0,at=-1': 'at=-1' must be a number of at least 0");
  EXPECT_EQ(refusal("rank:1"), "fault 'rank:1': rank 1 of 1 in the plan");
  EXPECT_EQ(refusal("device:2"), "fault 'device:2': device 2 of 2 in cluster two");
  EXPECT_EQ(refusal("link:device0"),
            "fault 'link:device0': cluster two has no link 'inside' there");
  EXPECT_EQ(refusal("link:node2"), "fault 'link:node2': node 2 of 2 in cluster two");
  EXPECT_EQ(refusal("link:leaf1"), "fault 'link:leaf1': leaf 1 of 1 in cluster two");
  EXPECT_EQ(refusal("link:node1-node1"), "fault 'link:node1-node1': both ends are node 1");
  EXPECT_EQ(refusal("link:node0-node1,at=1e-3,slow=2"), "accepted");
}

}  // namespace
}  // namespace tandem
