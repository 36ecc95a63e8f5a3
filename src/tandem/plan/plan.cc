#include "tandem/plan/plan.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "tandem/base/error.h"

namespace tandem {

Interval AttentionGrid::head_range(int group) const {
  const int first = std::accumulate(heads.begin(), heads.begin() + group, 0);
  return {first, first + heads[group]};
}

namespace {

int highest_rank(const Plan& plan) {
  int highest = -1;
  for (const Stage& stage : plan.stages) {
    for (int rank : stage.attention.ranks) highest = std::max(highest, rank);
    for (const ExpertPlacement& placement : stage.experts)
      for (const auto& replicas : placement)
        for (const ExpertReplica& replica : replicas)
          for (int rank : replica.ranks) highest = std::max(highest, rank);
  }
  return highest;
}

}  // namespace

int Plan::ranks_per_copy() const { return highest_rank(*this) + 1; }

int Plan::homes() const {
  int most = 1;
  for (const Stage& stage : stages) most = std::max(most, stage.attention.batch_shards);
  return most;
}

namespace {

bool holds_expert(const Stage& stage, int rank) {
  for (const ExpertPlacement& placement : stage.experts)
    for (const auto& replicas : placement)
      for (const ExpertReplica& replica : replicas)
        if (std::ranges::find(replica.ranks, rank) != replica.ranks.end()) return true;
  return false;
}

void validate_attention(const AttentionGrid& grid, const ModelConfig& model,
                        const std::string& where) {
  if (grid.heads.empty()) throw InputError("{}: no head group", where);
  for (size_t g = 0; g < grid.heads.size(); ++g)
    if (grid.heads[g] < 1)
      throw InputError("{}: head group {} has {} heads (the model has {} for {} groups)", where, g,
                       grid.heads[g], model.heads, grid.heads.size());
  const int64_t sum = std::accumulate(grid.heads.begin(), grid.heads.end(), int64_t{0});
  if (sum != model.heads)
    throw InputError("{}: head groups hold {} heads, the model has {}", where, sum, model.heads);
  if (grid.batch_shards < 1 || grid.sequence_shards < 1)
    throw InputError("{}: batch_shards and sequence_shards must be at least 1", where);
  const size_t places = grid.heads.size() * grid.batch_shards * grid.sequence_shards;
  if (grid.ranks.size() != places)
    throw InputError("{}: {} attention ranks for {} head groups x {} batch x {} sequence shards",
                     where, grid.ranks.size(), grid.heads.size(), grid.batch_shards,
                     grid.sequence_shards);
  std::set<int> seen;
  for (int rank : grid.ranks) {
    if (rank < 0) throw InputError("{}: attention rank {} is negative", where, rank);
    if (!seen.insert(rank).second)
      throw InputError("{}: rank {} stands twice in the attention grid", where, rank);
  }
}

void validate_expert(const std::vector<ExpertReplica>& replicas, int expert,
                     const ModelConfig& model, const std::string& where) {
  if (replicas.empty()) throw InputError("{}: expert {} is on no rank", where, expert);
  std::set<int> seen;
  for (const ExpertReplica& replica : replicas) {
    if (replica.ranks.empty())
      throw InputError("{}: a replica of expert {} is on no rank", where, expert);
    if (static_cast<int64_t>(replica.ranks.size()) > model.expert_hidden)
      throw InputError("{}: expert {} has {} hidden features, too few to split over {} ranks",
                       where, expert, model.expert_hidden, replica.ranks.size());
    for (int rank : replica.ranks) {
      if (rank < 0) throw InputError("{}: expert {} on rank {}", where, expert, rank);
      if (!seen.insert(rank).second)
        throw InputError("{}: rank {} holds expert {} twice", where, rank, expert);
    }
  }
}

void validate_exchange(const Stage& stage, const std::string& where) {
  if (stage.exchange != Exchange::replicated) return;
  if (stage.attention.batch_shards > 1 || stage.attention.sequence_shards > 1)
    throw InputError("{}: exchange 'replicated' needs one batch and one sequence shard", where);
  for (const ExpertPlacement& placement : stage.experts)
    for (size_t expert = 0; expert < placement.size(); ++expert)
      for (const ExpertReplica& replica : placement[expert])
        for (int rank : replica.ranks)
          if (std::ranges::find(stage.attention.ranks, rank) == stage.attention.ranks.end())
            throw InputError(
                "{}: expert {} is on rank {}, which is no attention rank; exchange 'replicated' "
                "needs experts on the attention ranks",
                where, expert, rank);
}

void validate_ranks(const Plan& plan) {
  const int ranks = plan.ranks_per_copy();
  std::vector<int> stage_of(ranks, -1);
  const auto put = [&](int rank, int stage) {
    if (stage_of[rank] >= 0 && stage_of[rank] != stage)
      throw InputError("plan '{}': rank {} is in stage {} and in stage {}", plan.name, rank,
                       stage_of[rank], stage);
    stage_of[rank] = stage;
  };
  for (int s = 0; s < std::ssize(plan.stages); ++s) {
    for (const int rank : plan.stages[s].attention.ranks) put(rank, s);
    for (const ExpertPlacement& placement : plan.stages[s].experts)
      for (const auto& replicas : placement)
        for (const ExpertReplica& replica : replicas)
          for (const int rank : replica.ranks) put(rank, s);
  }
  for (int rank = 0; rank < ranks; ++rank)
    if (stage_of[rank] < 0)
      throw InputError("plan '{}': rank {} has nothing to do", plan.name, rank);
}

}  // namespace

int64_t slots_of_home(const Plan& plan, int64_t slots) {
  const int64_t places = int64_t{plan.copies} * plan.homes();
  return (slots + places - 1) / places;
}

int64_t slots_of_rank(const Plan& plan, int64_t slots) {
  // A batch shard of a stage with fewer shards than homes holds the slots of several homes.
  int fewest = plan.homes();
  for (const Stage& stage : plan.stages) fewest = std::min(fewest, stage.attention.batch_shards);
  return slots_of_home(plan, slots) * ((plan.homes() + fewest - 1) / fewest);
}

AttentionPlace place_of(const AttentionGrid& grid, int index) {
  const int shard = index / grid.groups();
  return {.batch = shard / grid.sequence_shards,
          .sequence = shard % grid.sequence_shards,
          .group = index % grid.groups(),
          .index = index};
}

Role role_of(const Plan& plan, int rank) {
  const int per_copy = plan.ranks_per_copy();
  Role role{.copy = rank / per_copy, .local_rank = rank % per_copy};
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const AttentionGrid& grid = plan.stages[s].attention;
    const auto found = std::ranges::find(grid.ranks, role.local_rank);
    role.attention = found != grid.ranks.end();
    role.expert = holds_expert(plan.stages[s], role.local_rank);
    if (!role.attention && !role.expert) continue;
    role.stage = static_cast<int>(s);
    if (role.attention) {
      role.place = place_of(grid, static_cast<int>(found - grid.ranks.begin()));
    }
    return role;
  }
  TANDEM_CHECK(false, "rank {} is in no stage", rank);
}

void validate(const Plan& plan, const ModelConfig& model) {
  const std::string name = "plan '" + plan.name + "'";
  constexpr int most_ranks = 4096;
  if (plan.copies < 1) throw InputError("{}: copies must be at least 1", name);
  if (plan.micro_batches < 1 || plan.micro_batches > 64)
    throw InputError("{}: micro_batches is {}, must be 1 to 64", name, plan.micro_batches);
  if (plan.stages.empty()) throw InputError("{}: no stage", name);
  if (highest_rank(plan) >= most_ranks / plan.copies)
    throw InputError("{}: more than {} ranks", name, most_ranks);
  int64_t next_layer = 0;
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const Stage& stage = plan.stages[s];
    const std::string where = fmt::format("{}, stage {}", name, s);
    if (stage.layers.begin != next_layer || stage.layers.empty())
      throw InputError("{}: layers {} to {}, expected to start at layer {} and hold at least one",
                       where, stage.layers.begin, stage.layers.end, next_layer);
    next_layer = stage.layers.end;
    validate_attention(stage.attention, model, where);
    if (stage.experts.size() != 1 &&
        static_cast<int64_t>(stage.experts.size()) != stage.layers.size())
      throw InputError("{}: {} expert placements for {} layers", where, stage.experts.size(),
                       stage.layers.size());
    for (const ExpertPlacement& placement : stage.experts) {
      if (static_cast<int64_t>(placement.size()) != model.experts)
        throw InputError("{}: {} experts placed, the model has {}", where, placement.size(),
                         model.experts);
      for (size_t e = 0; e < placement.size(); ++e)
        validate_expert(placement[e], static_cast<int>(e), model, where);
    }
    validate_exchange(stage, where);
  }
  if (next_layer != model.layers)
    throw InputError("{}: stages end at layer {}, the model has {} layers", name, next_layer,
                     model.layers);
  validate_ranks(plan);
}

}  // namespace tandem
