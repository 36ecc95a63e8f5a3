// What has moved in the last intervals, so that it is not moved back at once. Used by one thread.
#pragma once

#include <map>
#include <tuple>

#include "tandem/plan/plan.h"

namespace tandem {

class RecentMoves {
 public:
  static constexpr int64_t rest_intervals = 5;

  void begin_interval() { ++interval_; }
  void note(const Plan& before, const Plan& after, int64_t layers);

  bool expert_left(int64_t layer, int expert, int rank) const {
    return recent(experts_left_, {layer, expert, rank});
  }
  bool role_changed(int rank) const { return recent(roles_, rank); }
  bool heads_grew(int rank) const { return recent(heads_grew_, rank); }
  bool heads_shrank(int rank) const { return recent(heads_shrank_, rank); }

 private:
  template <class Key>
  bool recent(const std::map<Key, int64_t>& noted, const Key& key) const {
    const auto found = noted.find(key);
    return found != noted.end() && interval_ - found->second <= rest_intervals;
  }

  int64_t interval_ = 0;
  // The interval in which it happened last.
  std::map<std::tuple<int64_t, int, int>, int64_t> experts_left_;  // layer, expert, rank of a copy
  std::map<int, int64_t> roles_, heads_grew_, heads_shrank_;       // by rank of a copy
};

}  // namespace tandem
