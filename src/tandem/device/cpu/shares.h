// Work that is a list of items, each made of many equal panels, cut among threads.
#pragma once

#include <algorithm>
#include <span>

#include "tandem/device/cpu/parallel.h"

namespace tandem::cpu {

struct Load {
  int64_t panels = 0;
  int64_t cost = 1;  // of one panel
};

// Thread t of T takes the panels that begin in the t-th of T equal parts of the whole cost: one run
// of panels behind each other, so that each thread streams its own stretch of the weights. Calls
// body(item, panels) on that thread for each item it has a part in.
template <class Body>
void share_panels(int threads, std::span<const Load> loads, const Body& body) {
  int64_t total = 0, panels = 0;
  for (const Load& load : loads) {
    total += load.panels * load.cost;
    panels += load.panels;
  }
  const int64_t shares = std::min<int64_t>(threads, panels);
  parallel_ranges(threads, shares, [&](const Interval& mine) {
    const Interval wanted{total * mine.begin / shares, total * mine.end / shares};
    int64_t before = 0;
    for (size_t i = 0; i < loads.size(); ++i) {
      const int64_t count = loads[i].panels, cost = loads[i].cost;
      const auto first_from = [&](int64_t point) {
        return std::clamp<int64_t>((point - before + cost - 1) / cost, 0, count);
      };
      const Interval part{first_from(wanted.begin), first_from(wanted.end)};
      if (!part.empty()) body(i, part);
      before += count * cost;
    }
  });
}

}  // namespace tandem::cpu
