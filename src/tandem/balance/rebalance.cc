#include "tandem/balance/rebalance.h"

#include <algorithm>
#include <map>
#include <set>

#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

constexpr double worth_a_role = 0.99;  // of a step's time, for a rank to change its role

std::vector<int> expert_ranks_of(const Stage& stage) {
  std::set<int> ranks;
  for (const ExpertPlacement& placement : stage.experts)
    for (const auto& replicas : placement)
      for (const ExpertReplica& replica : replicas)
        ranks.insert(replica.ranks.begin(), replica.ranks.end());
  return {ranks.begin(), ranks.end()};
}

bool separated(const Stage& stage, const std::vector<int>& expert_ranks) {
  return std::ranges::none_of(expert_ranks, [&](int rank) {
    return std::ranges::find(stage.attention.ranks, rank) != stage.attention.ranks.end();
  });
}

bool splits_experts(const Stage& stage) {
  for (const ExpertPlacement& placement : stage.experts)
    for (const auto& replicas : placement)
      for (const ExpertReplica& replica : replicas)
        if (replica.ranks.size() > 1) return true;
  return false;
}

// No rank is without a role: one that nothing is worth giving to gets, in the first layer, the
// expert with the fewest tokens of those who have several.
void give_everyone_something(const std::vector<int>& ranks, const double* expert_tokens,
                             Stage& stage) {
  for (const int rank : ranks) {
    const std::vector<int> holders = expert_ranks_of(stage);
    if (std::binary_search(holders.begin(), holders.end(), rank)) continue;
    ExpertPlacement& placement = stage.experts[0];
    std::map<int, int> held;
    for (const auto& replicas : placement)
      for (const ExpertReplica& replica : replicas) ++held[replica.ranks[0]];
    int least = -1;
    for (int expert = 0; expert < std::ssize(placement); ++expert)
      if (held[placement[expert].back().ranks[0]] > 1 &&
          (least < 0 || expert_tokens[expert] < expert_tokens[least]))
        least = expert;
    if (least >= 0) placement[least].back().ranks = {rank};
  }
}

// The grid's columns: head groups, or batch shards where every rank has all heads.
bool by_groups(const AttentionGrid& grid) { return grid.groups() > 1 || grid.batch_shards == 1; }
int columns(const AttentionGrid& grid) {
  return by_groups(grid) ? grid.groups() : grid.batch_shards;
}
int ranks_of_column(const AttentionGrid& grid) {
  return static_cast<int>(grid.ranks.size()) / columns(grid);
}
std::vector<int> column(const AttentionGrid& grid, int index) {
  std::vector<int> ranks;
  for (int batch = 0; batch < grid.batch_shards; ++batch)
    for (int sequence = 0; sequence < grid.sequence_shards; ++sequence)
      for (int group = 0; group < grid.groups(); ++group)
        if ((by_groups(grid) ? group : batch) == index)
          ranks.push_back(grid.rank(batch, sequence, group));
  return ranks;
}
AttentionGrid with_columns(const AttentionGrid& like, int64_t heads,
                           const std::vector<std::vector<int>>& ranks) {
  AttentionGrid grid = like;
  const auto count = static_cast<int>(ranks.size());
  if (by_groups(like))
    grid.heads = deal_heads(heads, count);
  else
    grid.batch_shards = count;
  grid.ranks.clear();
  for (int batch = 0; batch < grid.batch_shards; ++batch)
    for (int sequence = 0; sequence < grid.sequence_shards; ++sequence)
      for (int group = 0; group < grid.groups(); ++group)
        grid.ranks.push_back(by_groups(like) ? ranks[group][batch * grid.sequence_shards + sequence]
                                             : ranks[batch][sequence]);
  return grid;
}

}  // namespace

// Heads go from the slowest group to where they leave the slower of the two fastest.
void Rebalance::deal_heads(const Plan& plan, Stage& stage) const {
  AttentionGrid& grid = stage.attention;
  const auto seconds = [&](int group, int heads) {
    const LayerWork work = attention_work(plan, stage, model_, load_, heads);
    double most = 0;
    for (int batch = 0; batch < grid.batch_shards; ++batch)
      for (int sequence = 0; sequence < grid.sequence_shards; ++sequence)
        most = std::max(most, forecast_.attention_seconds(grid.rank(batch, sequence, group), work));
    return most;
  };
  for (int64_t moves = 0; moves < model_.heads; ++moves) {
    int slowest = 0;
    for (int group = 1; group < grid.groups(); ++group)
      if (seconds(group, grid.heads[group]) > seconds(slowest, grid.heads[slowest]))
        slowest = group;
    const double now = seconds(slowest, grid.heads[slowest]);
    int to = -1;
    double best = 0.99 * now;
    // The nearest first: all heads between the two groups change hands.
    for (int i = 2; i < 2 * grid.groups(); ++i) {
      const int group = slowest + (i % 2 == 0 ? i / 2 : -(i / 2));
      if (group < 0 || group >= grid.groups() || grid.heads[slowest] == 1) continue;
      const int from_rank = grid.rank(0, 0, slowest), to_rank = grid.rank(0, 0, group);
      if (recent_.heads_grew(from_rank) || recent_.heads_shrank(to_rank)) continue;
      const double then = std::max(seconds(group, grid.heads[group] + 1),
                                   seconds(slowest, grid.heads[slowest] - 1));
      if (then < best) best = then, to = group;
    }
    if (to < 0) return;
    --grid.heads[slowest];
    ++grid.heads[to];
  }
}

void Rebalance::deal_experts(const Plan& plan, Stage& stage, const std::vector<int>& expert_ranks,
                             bool counts_apart) const {
  std::vector<ExpertPlacement> placements;
  for (int64_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
    const ExpertShare share(load_.tokens / plan.copies,
                            &load_.expert_tokens[layer * model_.experts]);
    placements.push_back(place_layer({.layer = layer,
                                      .ranks = expert_ranks,
                                      .share = share,
                                      .copies = static_cast<size_t>(plan.copies),
                                      .expert_hidden = static_cast<double>(model_.expert_hidden),
                                      .counts_apart = counts_apart,
                                      .forecast = &forecast_,
                                      .recent = &recent_},
                                     stage.placement(layer)));
  }
  stage.experts = std::move(placements);
  give_everyone_something(expert_ranks, &load_.expert_tokens[stage.layers.begin * model_.experts],
                          stage);
  const auto like_first = [&](const auto& placement) { return placement == stage.experts[0]; };
  if (std::ranges::all_of(stage.experts, like_first)) stage.experts.resize(1);
}

Plan Rebalance::refined(Plan plan, bool counts_apart) const {
  for (Stage& stage : plan.stages) {
    deal_heads(plan, stage);
    if (!splits_experts(stage) && stage.exchange != Exchange::replicated)
      deal_experts(plan, stage, expert_ranks_of(stage), counts_apart);
  }
  return plan;
}

Plan Rebalance::refined(const Plan& plan) const {
  Plan one = refined(plan, false), other = refined(plan, true);
  return seconds(one) <= seconds(other) ? one : other;
}

std::vector<Plan> Rebalance::with_more_experts(const Plan& plan, size_t number) const {
  const Stage& stage = plan.stages[number];
  const AttentionGrid& grid = stage.attention;
  std::vector<int> experts = expert_ranks_of(stage);
  std::vector<Plan> plans;
  const int left = static_cast<int>(grid.ranks.size()) - ranks_of_column(grid);
  if (splits_experts(stage) || !separated(stage, experts) || columns(grid) == 1 ||
      left < bounds_.least)
    return plans;
  for (int leaving = 0; leaving < columns(grid); ++leaving) {
    const std::vector<int> ranks = column(grid, leaving);
    if (std::ranges::any_of(ranks, [&](int rank) { return recent_.role_changed(rank); })) continue;
    Plan& next = plans.emplace_back(plan);
    std::vector<std::vector<int>> staying;
    for (int index = 0; index < columns(grid); ++index)
      if (index != leaving) staying.push_back(column(grid, index));
    Stage& changed = next.stages[number];
    changed.attention = with_columns(grid, model_.heads, staying);
    std::vector<int> all = experts;
    all.insert(all.end(), ranks.begin(), ranks.end());
    std::ranges::sort(all);
    deal_experts(next, changed, all, false);
    if (expert_ranks_of(changed) != all) plans.pop_back();  // there are not enough experts
  }
  return plans;
}

std::vector<Plan> Rebalance::with_more_attention(const Plan& plan, size_t number) const {
  const Stage& stage = plan.stages[number];
  const AttentionGrid& grid = stage.attention;
  const std::vector<int> experts = expert_ranks_of(stage);
  std::vector<Plan> plans;
  const int joining = ranks_of_column(grid);
  const bool room = !by_groups(grid) || columns(grid) < model_.heads;
  if (splits_experts(stage) || !separated(stage, experts) || !room ||
      static_cast<int>(experts.size()) <= joining ||
      static_cast<int>(grid.ranks.size()) + joining > bounds_.most)
    return plans;
  // Runs of neighbouring ranks: which of many ranks go matters less than that they go together.
  for (size_t first = 0; first + joining <= experts.size(); ++first) {
    const std::vector<int> ranks(experts.begin() + first, experts.begin() + first + joining);
    if (std::ranges::any_of(ranks, [&](int rank) { return recent_.role_changed(rank); })) continue;
    Plan& next = plans.emplace_back(plan);
    Stage& changed = next.stages[number];
    std::vector<std::vector<int>> all;
    for (int index = 0; index < columns(grid); ++index) all.push_back(column(grid, index));
    all.push_back(ranks);
    changed.attention = with_columns(grid, model_.heads, all);
    std::vector<int> staying = experts;
    std::erase_if(staying, [&](int rank) { return std::ranges::find(ranks, rank) != ranks.end(); });
    deal_experts(next, changed, staying, false);
    if (expert_ranks_of(changed) != staying) plans.pop_back();
  }
  return plans;
}

Plan Rebalance::improve(const Plan& plan) const {
  const Plan same_roles = refined(plan);
  Plan best = seconds(same_roles) < seconds(plan) ? same_roles : plan;
  double least = worth_a_role * seconds(best);
  for (size_t stage = 0; stage < plan.stages.size(); ++stage)
    for (const auto& candidates :
         {with_more_experts(same_roles, stage), with_more_attention(same_roles, stage)})
      for (const Plan& candidate : candidates) {
        Plan full = refined(candidate);
        const double then = seconds(full);
        if (then >= least) continue;
        least = then;
        best = std::move(full);
      }
  return best;
}

}  // namespace tandem
