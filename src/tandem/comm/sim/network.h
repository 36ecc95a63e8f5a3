// How long messages take through the links of a cluster. A link works through what is sent over it
// in the order of sending, and links do not wait for each other; a message arrives when the last
// link of its way is done with it, a latency later. Why not fluid flows: docs/simulate.md.
#pragma once

#include <cstdint>
#include <vector>

#include "tandem/cluster/cluster.h"

namespace tandem {

class Network {
 public:
  explicit Network(const Cluster& cluster);

  // When a message that is sent at `now_seconds` arrives. Calls come in the order of their times.
  // Between different devices.
  double arrival_seconds(int from, int to, int64_t bytes, double now_seconds);

  // Bytes that have crossed from one node to another.
  int64_t internode_bytes() const { return internode_bytes_; }

 private:
  struct Way {
    double bytes_per_second = 0;
    double free_seconds = 0;  // when it has carried everything so far
  };
  struct Place {  // of a device; indices in ways_, each followed by the way back; -1: none
    int node = 0, leaf = 0;
    int inside = -1, nic = -1;
    double inside_latency_seconds = 0, nic_latency_seconds = 0;
  };
  int add(double bytes_per_second);

  std::vector<Way> ways_;
  std::vector<Place> places_;
  std::vector<int> leaves_;
  double leaf_latency_seconds_, overhead_seconds_;
  int64_t internode_bytes_ = 0;
};

}  // namespace tandem
