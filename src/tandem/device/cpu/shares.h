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

// Deals out runs of panels behind each other, of equal cost, so that a thread streams a stretch of
// the weights: as many runs as threads, or as items where these are more, so that a thread that the
// system lets wait does not hold up the others for long. Calls body(item, panels) on one thread for
// each item that a run has a part of.
template <class Body>
void share_panels(int threads, std::span<const Load> loads, const Body& body) {
  int64_t total = 0, panels = 0;
  for (const Load& load : loads) {
    total += load.panels * load.cost;
    panels += load.panels;
  }
  constexpr int64_t most_each = 4;
  const auto items = static_cast<int64_t>(loads.size());
  const int64_t shares =
      threads > 1 ? std::min(std::clamp<int64_t>(items, threads, most_each * threads), panels) : 1;
  if (panels == 0) return;
  parallel_items(threads, shares, [&](int64_t share) {
    const Interval wanted{total * share / shares, total * (share + 1) / shares};
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
