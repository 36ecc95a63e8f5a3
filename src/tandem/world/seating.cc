#include "tandem/world/seating.h"

#include <algorithm>
#include <set>

#include "tandem/base/error.h"
#include "tandem/plan/mirrors.h"

namespace tandem {

std::vector<int> first_seats(const Plan& plan, int processes) {
  std::vector<int> process_of(static_cast<size_t>(plan.ranks()));
  for (int process = 0; process < processes; ++process) {
    const Interval ranks = part(plan.ranks(), processes, process);
    for (int64_t rank = ranks.begin; rank < ranks.end; ++rank) process_of[rank] = process;
  }
  return process_of;
}

std::vector<int> seats_after_loss(const Plan& plan, std::vector<int> process_of,
                                  const std::vector<bool>& alive) {
  std::vector<int> load(alive.size());
  for (int rank = 0; rank < plan.ranks(); ++rank)
    if (alive[process_of[rank]]) ++load[process_of[rank]];
  const std::vector<int> before = process_of;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    if (alive[before[rank]]) continue;
    std::set<int> good;  // processes
    std::vector<int> like = mirrors_of(plan, rank);
    if (like.empty()) like = replicas_of(plan, rank);
    for (const int other : like)
      if (alive[before[other]]) good.insert(before[other]);
    if (good.empty())
      for (int process = 0; process < std::ssize(alive); ++process)
        if (alive[process]) good.insert(process);
    TANDEM_CHECK(!good.empty(), "no process is left");
    const int best =
        *std::ranges::min_element(good, {}, [&](int process) { return load[process]; });
    process_of[rank] = best;
    ++load[best];
  }
  return process_of;
}

}  // namespace tandem
