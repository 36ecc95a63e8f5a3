// How long messages take through the links of a cluster. A link works through what is sent over it
// in the order of sending, and links do not wait for each other; a message arrives when the last
// link of its way is done with it, a latency later. Why not fluid flows: docs/simulate.md.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "tandem/cluster/cluster.h"
#include "tandem/cluster/fault.h"

namespace tandem {

class Network {
 public:
  // Of the faults, those of links count.
  explicit Network(const Cluster& cluster, std::span<const Fault> faults = {});

  struct Arrival {
    double seconds = 0;
    bool lost = false;  // a link failed; `seconds` says when
  };
  // Of a message that is sent at `now_seconds`. Calls come in the order of their times. Between
  // different devices.
  Arrival arrival(int from, int to, int64_t bytes, double now_seconds);

  // Bytes that have crossed from one node to another.
  int64_t internode_bytes() const { return internode_bytes_; }

 private:
  struct Way {
    double bytes_per_second = 0;
    double free_seconds = 0;  // when it has carried everything so far
    Pace pace = {};
  };
  struct Place {  // of a device; indices in ways_, each followed by the way back; -1: none
    int node = 0, leaf = 0;
    int inside = -1, nic = -1;
    double inside_latency_seconds = 0, nic_latency_seconds = 0;
  };
  int add(double bytes_per_second);
  void apply(const Fault& fault, const Cluster& cluster);
  void change(int way, const Fault& fault);             // and the way back
  int route(const Place& source, const Place& target);  // -1: nothing ails it

  std::vector<Way> ways_;
  std::vector<Place> places_;
  std::vector<int> leaves_;
  // Between nodes whose route has a fault; and the ways of one NIC to another, made when first
  // used.
  std::map<std::pair<int, int>, Pace> ailing_routes_;
  std::map<std::pair<int, int>, int> route_ways_;
  double leaf_latency_seconds_, overhead_seconds_;
  int64_t internode_bytes_ = 0;
};

}  // namespace tandem
