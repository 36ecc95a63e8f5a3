#include "tandem/plan/mirrors.h"

#include <set>

namespace tandem {

std::vector<int> mirrors_of(const Plan& plan, int rank) {
  const Role role = role_of(plan, rank);
  std::vector<int> mirrors;
  if (!role.attention) return mirrors;
  const AttentionGrid& grid = plan.stages[role.stage].attention;
  for (int s = 0; s < grid.sequence_shards; ++s)
    if (s != role.place.sequence)
      mirrors.push_back(rank - role.local_rank + grid.rank(role.place.batch, s, role.place.group));
  return mirrors;
}

std::vector<int> replicas_of(const Plan& plan, int rank) {
  const Role role = role_of(plan, rank);
  std::set<int> ranks;
  for (const ExpertPlacement& placement : plan.stages[role.stage].experts)
    for (const auto& replicas : placement) {
      std::set<int> holders;
      for (const ExpertReplica& replica : replicas)
        holders.insert(replica.ranks.begin(), replica.ranks.end());
      if (!holders.contains(role.local_rank)) continue;
      for (const int holder : holders)
        if (holder != role.local_rank) ranks.insert(rank - role.local_rank + holder);
    }
  return {ranks.begin(), ranks.end()};
}

}  // namespace tandem
