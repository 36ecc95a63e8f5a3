#include "tandem/planner/crowding.h"

#include <algorithm>

namespace tandem {
namespace {

// How long a rank has been busy by any time. A rank does one thing after the other.
class BusyTime {
 public:
  explicit BusyTime(const RankSpans& rank) {
    double sum = 0;
    for (const Span& span : rank.spans) {
      if (!computes(span)) continue;
      pieces_.push_back({span.start_seconds, span.end_seconds, sum});
      sum += span.end_seconds - span.start_seconds;
    }
  }

  double between(double begin, double end) const { return until(end) - until(begin); }

 private:
  struct Piece {
    double begin, end, busy_before;
  };
  double until(double seconds) const {
    const auto after = std::ranges::upper_bound(pieces_, seconds, {}, &Piece::begin);
    if (after == pieces_.begin()) return 0;
    const Piece& last = *(after - 1);
    return last.busy_before + std::min(seconds, last.end) - last.begin;
  }

  std::vector<Piece> pieces_;  // in the order of time
};

}  // namespace

std::vector<Crowding> crowding_of(const std::vector<RankSpans>& ranks, const Cluster& cluster,
                                  const std::vector<int>& devices) {
  const std::vector<BusyTime> busy(ranks.begin(), ranks.end());
  std::vector<Crowding> all(ranks.size());
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const int node = cluster.node_of(devices[rank]);
    const double others =
        static_cast<double>(cluster.nodes[static_cast<size_t>(node)].devices.size()) - 1;
    std::vector<const BusyTime*> neighbours;
    for (size_t other = 0; other < ranks.size(); ++other)
      if (other != rank && cluster.node_of(devices[other]) == node)
        neighbours.push_back(&busy[other]);
    Crowding seconds;
    for (const Span& span : ranks[rank].spans) {
      if (!computes(span)) continue;
      seconds[span.name] += span.end_seconds - span.start_seconds;
      for (const BusyTime* neighbour : neighbours)
        all[rank][span.name] += neighbour->between(span.start_seconds, span.end_seconds);
    }
    for (auto& [operation, shared] : all[rank])
      shared = seconds[operation] > 0 ? shared / seconds[operation] / others : 0;
  }
  return all;
}

}  // namespace tandem
