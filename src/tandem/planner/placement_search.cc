#include "tandem/planner/placement_search.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "tandem/base/error.h"

namespace tandem {
namespace {

// Experts on ranks while they are moved about.
class Board {
 public:
  Board(const PlacementProblem& problem, const std::vector<int>& counts)
      : problem_of_(problem),
        counts_of_(counts),
        held_(static_cast<size_t>(problem.ranks)),
        load_(static_cast<size_t>(problem.ranks)),
        on_node_(problem.loads.size() * static_cast<size_t>(problem.nodes)) {}

  double weight(int e) const { return problem().loads[at(e)] / counts_of_.get()[at(e)]; }
  double load(int rank) const { return load_[at(rank)]; }
  const std::vector<int>& held(int rank) const { return held_[at(rank)]; }
  int ranks() const { return problem().ranks; }
  int node(int rank) const { return rank / (problem().ranks / problem().nodes); }
  int on_node(int e, int node) const { return on_node_[at(e * problem().nodes + node)]; }
  bool holds(int rank, int e) const { return std::ranges::find(held(rank), e) != held(rank).end(); }
  int64_t room(int rank) const {
    return part(problem().slots, problem().ranks, rank).size() - std::ssize(held(rank));
  }
  int fullest() const { return static_cast<int>(std::ranges::max_element(load_) - load_.begin()); }

  void put(int rank, int e) {
    held_[at(rank)].push_back(e);
    load_[at(rank)] += weight(e);
    ++on_node_[at(e * problem().nodes + node(rank))];
  }
  void take(int rank, int e) {
    std::erase(held_[at(rank)], e);
    load_[at(rank)] -= weight(e);
    --on_node_[at(e * problem().nodes + node(rank))];
  }
  // Neither rank would hold an expert twice, and no expert would be on fewer nodes.
  bool may_swap(int a, int e, int b, int f) const {
    if (e == f || holds(b, e) || holds(a, f)) return false;
    if (node(a) == node(b)) return true;
    const auto keeps_spread = [&](int expert, int from, int to) {
      const bool leaves = on_node(expert, node(from)) == 1,
                 arrives = on_node(expert, node(to)) == 0;
      return arrives || !leaves;
    };
    return keeps_spread(e, a, b) && keeps_spread(f, b, a);
  }
  void swap(int a, int e, int b, int f) {
    take(a, e), take(b, f);
    put(a, f), put(b, e);
  }
  ExpertRanks result() const {
    ExpertRanks ranks(problem().loads.size());
    for (int rank = 0; rank < problem().ranks; ++rank)
      for (const int e : held(rank)) ranks[at(e)].push_back(rank);
    return ranks;
  }

 private:
  const PlacementProblem& problem() const { return problem_of_; }
  static size_t at(int index) { return static_cast<size_t>(index); }

  std::reference_wrapper<const PlacementProblem> problem_of_;
  std::reference_wrapper<const std::vector<int>> counts_of_;
  std::vector<std::vector<int>> held_;
  std::vector<double> load_;
  std::vector<int> on_node_;  // [expert][node]
};

// Heaviest first, each replica to the emptiest rank with room, on a node without the expert if
// there is one (Graham's rule for makespans, "longest processing time"). It may leave itself no
// place for experts that are nearly everywhere; most replicas first, each to the rank with most
// room, never does.
bool deal(Board& board, const std::vector<int>& counts, bool heaviest_first) {
  std::vector<int> order;
  for (size_t e = 0; e < counts.size(); ++e)
    order.insert(order.end(), static_cast<size_t>(counts[e]), static_cast<int>(e));
  std::ranges::stable_sort(order, std::greater(), [&](int e) {
    return heaviest_first ? board.weight(e) : counts[static_cast<size_t>(e)];
  });
  for (const int e : order) {
    int best = -1;
    for (int rank = 0; rank < board.ranks(); ++rank) {
      if (board.room(rank) <= 0 || board.holds(rank, e)) continue;
      const auto key = [&](int r) {
        return heaviest_first
                   ? std::pair<double, double>(board.on_node(e, board.node(r)), board.load(r))
                   : std::pair<double, double>(-board.room(r), board.load(r));
      };
      if (best < 0 || key(rank) < key(best)) best = rank;
    }
    if (best < 0) return false;
    board.put(best, e);
  }
  return true;
}

struct Swap {
  int a = -1, e = -1, b = -1, f = -1;
};

// The swap with the fullest rank that leaves the lower of peaks; false where none lowers it.
bool lower_peak(Board& board) {
  const int a = board.fullest();
  double best = board.load(a) * (1 - 1e-12);
  Swap chosen;
  for (int b = 0; b < board.ranks(); ++b) {
    if (b == a) continue;
    for (const int e : board.held(a))
      for (const int f : board.held(b)) {
        const double shift = board.weight(e) - board.weight(f);
        const double peak = std::max(board.load(a) - shift, board.load(b) + shift);
        if (shift > 0 && peak < best && board.may_swap(a, e, b, f)) {
          best = peak;
          chosen = {a, e, b, f};
        }
      }
  }
  if (chosen.a < 0) return false;
  board.swap(chosen.a, chosen.e, chosen.b, chosen.f);
  return true;
}

// Swaps between nodes that bring experts of the same tokens together, while no rank gets fuller
// than the fullest is.
void bring_together(const PlacementProblem& problem, Board& board) {
  const double most = board.load(board.fullest()) * (1 + 1e-12);
  const auto bond = [&](int e, int rank, int without) {
    double sum = 0;
    for (int other = 0; other < board.ranks(); ++other)
      if (board.node(other) == board.node(rank))
        for (const int f : board.held(other))
          if (f != without)
            sum += problem.coactivation[static_cast<size_t>(e)][static_cast<size_t>(f)];
    return sum;
  };
  constexpr int most_rounds = 8;
  bool changed = true;
  for (int round = 0; round < most_rounds && changed; ++round) {
    changed = false;
    for (int a = 0; a < board.ranks(); ++a)
      for (int b = a + 1; b < board.ranks(); ++b) {
        if (board.node(a) == board.node(b)) continue;
        const std::vector<int> mine = board.held(a), theirs = board.held(b);
        for (const int e : mine)
          for (const int f : theirs) {
            if (!board.holds(a, e) || !board.holds(b, f) || !board.may_swap(a, e, b, f)) continue;
            const double shift = board.weight(e) - board.weight(f);
            if (board.load(a) - shift > most || board.load(b) + shift > most) continue;
            const double gain = bond(e, b, f) + bond(f, a, e) - bond(e, a, e) - bond(f, b, f);
            if (gain <= 1e-9) continue;
            board.swap(a, e, b, f);
            changed = true;
          }
      }
  }
}

// All ways to give experts to ranks, for problems of a dozen slots.
class Exhaustive {
 public:
  explicit Exhaustive(const PlacementProblem& problem)
      : problem_(problem), load_(static_cast<size_t>(problem.ranks)), room_(load_.size()) {
    for (int rank = 0; rank < problem.ranks; ++rank)
      room_[static_cast<size_t>(rank)] =
          static_cast<int>(part(problem.slots, problem.ranks, rank).size());
    ranks_.resize(problem.loads.size());
  }
  ExpertRanks run() {
    go(0, problem_.slots);
    return best_;
  }

 private:
  // Expert e takes any set of ranks with room, the later ones need a slot each at least.
  void go(size_t e, int left) {
    const double peak = *std::ranges::max_element(load_);
    if (peak > least_peak_) return;
    if (e == ranks_.size()) {
      const double copies = internode_tokens(problem_, ranks_);
      if (peak < least_peak_ || copies < least_copies_) {
        least_peak_ = peak, least_copies_ = copies;
        best_ = ranks_;
      }
      return;
    }
    const auto later = static_cast<int>(ranks_.size() - e) - 1;
    for (unsigned set = 1; set < 1u << problem_.ranks; ++set) {
      const int count = __builtin_popcount(set);
      if (left - count < later || !fits(set)) continue;
      const double weight = problem_.loads[e] / count;
      change(e, set, weight, 1);
      go(e + 1, left - count);
      change(e, set, -weight, -1);
    }
  }
  bool fits(unsigned set) const {
    for (size_t r = 0; r < room_.size(); ++r)
      if ((set >> r & 1) && room_[r] == 0) return false;
    return true;
  }
  void change(size_t e, unsigned set, double weight, int taken) {
    ranks_[e].clear();
    for (size_t r = 0; r < room_.size(); ++r) {
      if (!(set >> r & 1)) continue;
      load_[r] += weight;
      room_[r] -= taken;
      if (taken > 0) ranks_[e].push_back(static_cast<int>(r));
    }
  }

  const PlacementProblem& problem_;
  std::vector<double> load_;
  std::vector<int> room_;
  ExpertRanks ranks_, best_;
  double least_peak_ = std::numeric_limits<double>::infinity();
  double least_copies_ = std::numeric_limits<double>::infinity();
};

bool is_small(const PlacementProblem& problem) {
  return problem.loads.size() <= 6 && problem.ranks <= 4 && problem.slots <= 10;
}

// Pairs of old and new numbers, those that have most in common first.
std::vector<int> matched(const std::vector<std::vector<int>>& common) {
  const auto count = common.size();
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0; i < count; ++i)
    for (size_t j = 0; j < count; ++j) pairs.emplace_back(i, j);
  std::ranges::stable_sort(pairs, std::greater(),
                           [&](const auto& p) { return common[p.first][p.second]; });
  std::vector<int> to(count, -1);
  std::vector<bool> taken(count);
  for (const auto& [i, j] : pairs)
    if (to[i] < 0 && !taken[j]) to[i] = static_cast<int>(j), taken[j] = true;
  return to;
}

}  // namespace

ExpertRanks search_placement(const PlacementProblem& problem, const std::vector<int>& counts) {
  if (is_small(problem)) return Exhaustive(problem).run();
  Board board(problem, counts);
  if (!deal(board, counts, true)) {
    board = Board(problem, counts);
    const bool dealt = deal(board, counts, false);
    TANDEM_CHECK(dealt, "{} experts in {} slots of {} ranks", counts.size(), problem.slots,
                 problem.ranks);
  }
  constexpr int most_swaps = 4096;
  for (int i = 0; i < most_swaps && lower_peak(board); ++i) {
  }
  if (!problem.coactivation.empty()) bring_together(problem, board);
  return board.result();
}

ExpertRanks renumbered_like(const PlacementProblem& problem, const ExpertRanks& ranks) {
  const auto per_node = static_cast<size_t>(problem.ranks / problem.nodes);
  const auto all = static_cast<size_t>(problem.ranks), nodes = static_cast<size_t>(problem.nodes);
  std::vector<std::vector<int>> by_rank(all, std::vector<int>(all));
  std::vector<std::vector<int>> by_node(nodes, std::vector<int>(nodes));
  for (size_t e = 0; e < ranks.size(); ++e)
    for (const int now : ranks[e])
      for (const int before : problem.current[e]) {
        const auto i = static_cast<size_t>(now), j = static_cast<size_t>(before);
        if (j >= all) throw InputError("today's placement: expert {} is on rank {}", e, before);
        ++by_rank[i][j];
        ++by_node[i / per_node][j / per_node];
      }
  const std::vector<int> node_to = matched(by_node);
  std::vector<int> rank_to(all);
  for (size_t node = 0; node < nodes; ++node) {
    const size_t from = node * per_node, to = static_cast<size_t>(node_to[node]) * per_node;
    std::vector<std::vector<int>> common(per_node, std::vector<int>(per_node));
    for (size_t i = 0; i < per_node; ++i)
      for (size_t j = 0; j < per_node; ++j) common[i][j] = by_rank[from + i][to + j];
    const std::vector<int> within = matched(common);
    for (size_t i = 0; i < per_node; ++i) rank_to[from + i] = static_cast<int>(to) + within[i];
  }
  ExpertRanks renumbered = ranks;
  for (auto& own : renumbered)
    for (int& rank : own) rank = rank_to[static_cast<size_t>(rank)];
  return renumbered;
}

}  // namespace tandem
