// Something of a cluster that slows or fails at a given time. As text, in the manner of a plan:
//
//   rank:3,at=2e-3,slow=4       the device that rank 3 of the plan sits on
//   device:7,at=2e-3            no factor: it fails
//   link:device7, link:node1    from the device to its node's switch; from the node to its leaf
//   link:leaf0                  from the leaf to the core
//   link:node0-node1            what goes between these two nodes, and nothing else
//
// Links both ways. Time counts from the start of the run; without `at` it is so from the start. A
// later fault of the same thing takes the place of an earlier one; `slow=1` is full speed again.
#pragma once

#include <cstdint>
#include <string>

#include "tandem/cluster/pace.h"

namespace tandem {

struct Cluster;

struct Fault {
  enum class Of : uint8_t { rank, device, device_link, node_link, leaf_link, route };
  Of of = Of::rank;
  int number = 0;
  int other = -1;  // route: the other node
  double at_seconds = 0;
  double slow = Pace::never;  // so many times as slow, at least 1; never: fails
  std::string text;

  bool fails() const { return slow == Pace::never; }
  bool of_device() const { return of == Of::rank || of == Of::device; }
};

// InputError where the text is no fault.
Fault parse_fault(const std::string& text);
// InputError where the cluster has no such thing, or the plan no such rank.
void check(const Fault& fault, const Cluster& cluster, int ranks);

}  // namespace tandem
