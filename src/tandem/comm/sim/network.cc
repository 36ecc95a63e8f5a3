#include "tandem/comm/sim/network.h"

#include <algorithm>
#include <array>

namespace tandem {

int Network::add(double bytes_per_second) {
  const auto index = static_cast<int>(ways_.size());
  ways_.insert(ways_.end(), 2, {.bytes_per_second = bytes_per_second});
  return index;
}

Network::Network(const Cluster& cluster, std::span<const Fault> faults)
    : leaf_latency_seconds_(cluster.leaf_latency_seconds),
      overhead_seconds_(cluster.message_overhead_seconds) {
  std::vector<double> leaf_bytes_per_second;
  for (size_t n = 0; n < cluster.nodes.size(); ++n) {
    const Node& node = cluster.nodes[n];
    const int leaf = cluster.leaf_of(static_cast<int>(n));
    leaf_bytes_per_second.resize(static_cast<size_t>(leaf) + 1);
    int shared_nic = -1;
    for (size_t d = 0; d < node.devices.size(); ++d) {
      Place place{.node = static_cast<int>(n),
                  .leaf = leaf,
                  .inside_latency_seconds = node.inside.latency_seconds,
                  .nic_latency_seconds = node.nic.latency_seconds};
      if (node.inside.bytes_per_second > 0) place.inside = add(node.inside.bytes_per_second);
      if (node.nic.bytes_per_second > 0) {
        const bool first = node.nic_per_device || shared_nic < 0;
        if (first) shared_nic = add(node.nic.bytes_per_second);
        if (first) leaf_bytes_per_second[static_cast<size_t>(leaf)] += node.nic.bytes_per_second;
        place.nic = shared_nic;
      }
      places_.push_back(place);
    }
  }
  for (const double bytes_per_second : leaf_bytes_per_second)
    leaves_.push_back(add(bytes_per_second / cluster.oversubscription));
  for (const Fault& fault : faults) apply(fault, cluster);
}

void Network::change(int way, const Fault& fault) {
  for (const int direction : {way, way + 1})
    ways_[static_cast<size_t>(direction)].pace.change(fault.at_seconds, fault.slow);
}

void Network::apply(const Fault& fault, const Cluster& cluster) {
  const auto number = static_cast<size_t>(fault.number);
  switch (fault.of) {
    case Fault::Of::rank:
    case Fault::Of::device:
      return;
    case Fault::Of::device_link:
      return change(places_[number].inside, fault);
    case Fault::Of::leaf_link:
      return change(leaves_[number], fault);
    case Fault::Of::node_link: {
      int last = -1;  // devices that share a NIC follow each other
      for (int device = 0; device < cluster.devices(); ++device) {
        const Place& place = places_[static_cast<size_t>(device)];
        if (place.node != fault.number || place.nic == last) continue;
        change(last = place.nic, fault);
      }
      return;
    }
    case Fault::Of::route:
      for (const auto& ends :
           {std::pair(fault.number, fault.other), std::pair(fault.other, fault.number)})
        ailing_routes_[ends].change(fault.at_seconds, fault.slow);
  }
}

// As fast as the slower NIC while all is well.
int Network::route(const Place& source, const Place& target) {
  if (ailing_routes_.empty()) return -1;
  const auto ailing = ailing_routes_.find({source.node, target.node});
  if (ailing == ailing_routes_.end()) return -1;
  const auto [known, is_new] = route_ways_.try_emplace({source.nic, target.nic}, 0);
  if (is_new) {
    const auto speed = [&](int way) { return ways_[static_cast<size_t>(way)].bytes_per_second; };
    known->second = add(std::min(speed(source.nic), speed(target.nic)));
    ways_[static_cast<size_t>(known->second)].pace = ailing->second;
  }
  return known->second;
}

Network::Arrival Network::arrival(int from, int to, int64_t bytes, double now_seconds) {
  const Place &source = places_[static_cast<size_t>(from)],
              &target = places_[static_cast<size_t>(to)];
  std::array<int, 5> way{};
  size_t count = 0;
  double latency = 0;
  if (source.node == target.node) {
    way = {source.inside, target.inside + 1};
    count = 2;
    latency = source.inside_latency_seconds;
  } else {
    way[count++] = source.nic;
    if (source.leaf != target.leaf) {
      way[count++] = leaves_[static_cast<size_t>(source.leaf)];
      way[count++] = leaves_[static_cast<size_t>(target.leaf)] + 1;
      latency += leaf_latency_seconds_;
    }
    if (const int ailing = route(source, target); ailing >= 0) way[count++] = ailing;
    way[count++] = target.nic + 1;
    latency += std::max(source.nic_latency_seconds, target.nic_latency_seconds);
    internode_bytes_ += bytes;
  }
  const double ready = now_seconds + overhead_seconds_;
  double end = ready;
  for (size_t i = 0; i < count; ++i) {
    Way& link = ways_[static_cast<size_t>(way[i])];
    link.free_seconds = link.pace.end_seconds(std::max(ready, link.free_seconds),
                                              static_cast<double>(bytes) / link.bytes_per_second);
    if (link.free_seconds == Pace::never)
      return {.seconds = std::max(ready, link.pace.stop_seconds()), .lost = true};
    if (i == 0) link.free_seconds += overhead_seconds_;
    end = std::max(end, link.free_seconds);
  }
  return {.seconds = end + latency};
}

}  // namespace tandem
