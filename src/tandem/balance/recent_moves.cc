#include "tandem/balance/recent_moves.h"

#include <algorithm>

namespace tandem {
namespace {

const Stage& stage_of(const Plan& plan, int64_t layer) {
  const auto has = [&](const Stage& stage) { return stage.layers.contains(layer); };
  return *std::ranges::find_if(plan.stages, has);
}

bool holds(const std::vector<ExpertReplica>& replicas, int rank) {
  return std::ranges::any_of(replicas, [&](const ExpertReplica& replica) {
    return std::ranges::find(replica.ranks, rank) != replica.ranks.end();
  });
}

}  // namespace

void RecentMoves::note(const Plan& before, const Plan& after, int64_t layers) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    const ExpertPlacement& from = stage_of(before, layer).placement(layer);
    const ExpertPlacement& to = stage_of(after, layer).placement(layer);
    for (int expert = 0; expert < std::ssize(from); ++expert)
      for (const ExpertReplica& replica : from[expert])
        for (const int rank : replica.ranks)
          if (!holds(to[expert], rank)) experts_left_[{layer, expert, rank}] = interval_;
  }
  for (int rank = 0; rank < before.ranks_per_copy(); ++rank) {
    const Role was = role_of(before, rank), is = role_of(after, rank);
    if (was.attention != is.attention || was.expert != is.expert) roles_[rank] = interval_;
    if (!was.attention || !is.attention) continue;
    const int had = before.stages[was.stage].attention.heads[was.place.group];
    const int has = after.stages[is.stage].attention.heads[is.place.group];
    if (has > had) heads_grew_[rank] = interval_;
    if (has < had) heads_shrank_[rank] = interval_;
  }
}

}  // namespace tandem
