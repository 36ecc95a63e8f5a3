#include <algorithm>
#include <limits>
#include <map>

#include "tandem/balance/rebalance.h"

namespace tandem {
namespace {

constexpr double worth_a_move = 0.99;  // of the slowest rank's time, for a move to be worth it

class LayerPlacement {
 public:
  LayerPlacement(const LayerPlacementProblem& problem, const ExpertPlacement& today)
      : problem_(problem), placement_(today) {
    for (const int rank : problem.ranks) held_[rank];
  }

  ExpertPlacement improve() {
    clear_out();
    measure();
    for (size_t moves = 0; moves < 4 * placement_.size(); ++moves)
      if (!improve_slowest()) break;
    return std::move(placement_);
  }

 private:
  struct Change {
    int expert = 0, from = -1, to = -1;              // a replica that moves; from -1: a new one
    int other = -1, other_from = -1, other_to = -1;  // one that moves, or (to -1) goes
    double slowest = std::numeric_limits<double>::infinity();  // of the ranks it touches
  };

  size_t copies_of(int expert, int more = 0) const {
    return (placement_[expert].size() + more) * problem_.copies;
  }
  bool whole(int expert) const {
    return std::ranges::all_of(placement_[expert],
                               [](const ExpertReplica& r) { return r.ranks.size() == 1; });
  }
  bool holds(int rank, int expert) const {
    return std::ranges::any_of(placement_[expert],
                               [&](const ExpertReplica& r) { return r.ranks[0] == rank; });
  }
  bool may_go(int expert, int to) const {
    return !holds(to, expert) && !problem_.recent->expert_left(problem_.layer, expert, to);
  }
  void add(LayerWork& work, int expert, double sign, size_t copies) const {
    work.tokens += sign * problem_.share.tokens(expert, copies);
    work.active += sign * problem_.share.active(expert, copies);
    work.held += sign;
  }
  double seconds(int rank, const LayerWork& work) const {
    const double within = problem_.forecast->expert_seconds(rank, work);
    if (!problem_.counts_apart) return within;
    return within + problem_.forecast->apart_seconds(rank, {.held = work.held}) -
           problem_.forecast->apart_seconds(rank, {.held = 1e-6});
  }

  void measure() {
    for (auto& [rank, work] : held_) work = {.hidden = problem_.expert_hidden};
    for (int expert = 0; expert < std::ssize(placement_); ++expert)
      for (const ExpertReplica& replica : placement_[expert])
        for (const int rank : replica.ranks)
          if (held_.contains(rank)) {
            const auto parts = static_cast<double>(replica.ranks.size());
            add(held_[rank], expert, 1 / parts, copies_of(expert));
          }
  }

  // Experts on ranks that hold experts no more go, the heaviest first, to where they end first.
  void clear_out() {
    std::vector<std::pair<int, ExpertReplica*>> homeless;
    for (int expert = 0; expert < std::ssize(placement_); ++expert)
      for (ExpertReplica& replica : placement_[expert])
        if (replica.ranks.size() == 1 && !held_.contains(replica.ranks[0]))
          homeless.emplace_back(expert, &replica);
    std::ranges::stable_sort(homeless, std::greater{}, [&](const auto& item) {
      return problem_.share.tokens(item.first, copies_of(item.first));
    });
    measure();
    for (const auto& [expert, replica] : homeless) {
      int best = -1;
      double least = std::numeric_limits<double>::infinity();
      for (const auto& [rank, work] : held_) {
        if (holds(rank, expert)) continue;
        LayerWork with = work;
        add(with, expert, 1, copies_of(expert));
        if (const double s = seconds(rank, with); s < least) least = s, best = rank;
      }
      if (best < 0) return;  // there is no room; the plan will not be valid
      replica->ranks = {best};
      add(held_[best], expert, 1, copies_of(expert));
    }
  }

  bool improve_slowest() {
    int slowest = -1;
    double most = 0;
    for (const auto& [rank, work] : held_)
      if (const double s = seconds(rank, work); s > most) most = s, slowest = rank;
    if (slowest < 0) return false;
    Change best{.slowest = worth_a_move * most};
    bool found = false;
    const auto offer = [&](const Change& change) {
      if (change.slowest < best.slowest) best = change, found = true;
    };
    for (int expert = 0; expert < std::ssize(placement_); ++expert) {
      if (!whole(expert) || !holds(slowest, expert)) continue;
      for (const auto& [rank, work] : held_) {
        if (!may_go(expert, rank)) continue;
        offer(rated({.expert = expert, .from = slowest, .to = rank}));
        for (int other = 0; other < std::ssize(placement_); ++other) {
          if (other == expert || !whole(other)) continue;
          if (holds(rank, other) && may_go(other, slowest))
            offer(rated({.expert = expert,
                         .from = slowest,
                         .to = rank,
                         .other = other,
                         .other_from = rank,
                         .other_to = slowest}));
          if (placement_[other].size() > 1)
            for (const ExpertReplica& spare : placement_[other])
              offer(rated(
                  {.expert = expert, .to = rank, .other = other, .other_from = spare.ranks[0]}));
        }
      }
    }
    if (!found) return false;
    apply(best);
    measure();
    return true;
  }

  // The same change with the time of the slowest rank among those that it touches.
  Change rated(Change change) const {
    std::map<int, LayerWork> after;
    const auto touch = [&](int rank) -> LayerWork& {
      return after.try_emplace(rank, held_.at(rank)).first->second;
    };
    const auto recount = [&](int expert, int more) {  // with so many replicas more
      for (const ExpertReplica& replica : placement_[expert]) {
        LayerWork& work = touch(replica.ranks[0]);
        add(work, expert, -1, copies_of(expert));
        add(work, expert, 1, copies_of(expert, more));
      }
    };
    const int more = change.from < 0 ? 1 : 0, less = change.other_to < 0 && change.other >= 0;
    if (more) recount(change.expert, 1);
    if (less) recount(change.other, -1);
    if (change.from >= 0) add(touch(change.from), change.expert, -1, copies_of(change.expert));
    add(touch(change.to), change.expert, 1, copies_of(change.expert, more));
    if (change.other >= 0) {
      add(touch(change.other_from), change.other, -1, copies_of(change.other, -less));
      if (change.other_to >= 0)
        add(touch(change.other_to), change.other, 1, copies_of(change.other));
    }
    change.slowest = 0;
    for (const auto& [rank, work] : after)
      change.slowest = std::max(change.slowest, seconds(rank, work));
    return change;
  }

  void apply(const Change& change) {
    const auto move = [&](int expert, int from, int to) {
      auto& replicas = placement_[expert];
      if (from < 0) return replicas.push_back({{to}});
      const auto at = std::ranges::find_if(
          replicas, [&](const ExpertReplica& r) { return r.ranks[0] == from; });
      if (to < 0)
        replicas.erase(at);
      else
        at->ranks = {to};
    };
    move(change.expert, change.from, change.to);
    if (change.other >= 0) move(change.other, change.other_from, change.other_to);
  }

  const LayerPlacementProblem& problem_;
  ExpertPlacement placement_;
  std::map<int, LayerWork> held_;  // by rank
};

}  // namespace

ExpertPlacement place_layer(const LayerPlacementProblem& problem, const ExpertPlacement& today) {
  return LayerPlacement(problem, today).improve();
}

}  // namespace tandem
