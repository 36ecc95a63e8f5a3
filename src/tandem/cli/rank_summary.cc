#include "tandem/cli/rank_summary.h"

#include <fmt/format.h>

#include <algorithm>

#include "tandem/runtime/optimizer.h"
#include "tandem/state/kv_cache.h"

namespace tandem::cli {
namespace {

// "0-3,8": numbers in ascending order.
std::string list_text(const std::vector<int>& numbers) {
  std::string text;
  for (size_t first = 0; first < numbers.size();) {
    size_t end = first + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!text.empty()) text += ",";
    text += range_text({numbers[first], numbers[end - 1] + 1});
    first = end;
  }
  return text;
}

std::string experts_text(const ExpertPlacement& placement, int local_rank) {
  std::vector<int> held;
  size_t slices = 1;
  for (size_t expert = 0; expert < placement.size(); ++expert)
    for (const ExpertReplica& replica : placement[expert])
      if (std::ranges::find(replica.ranks, local_rank) != replica.ranks.end()) {
        held.push_back(static_cast<int>(expert));
        slices = std::max(slices, replica.ranks.size());
      }
  if (held.empty()) return "-";
  return list_text(held) + (slices > 1 ? fmt::format(" (1/{})", slices) : "");
}

// Blocks of positions are handed out whole.
int64_t kv_bytes_of(const Plan& plan, const ModelConfig& model, const RankSummary& rank,
                    const MemoryAssumptions& assumptions) {
  const int shards = plan.copies * plan.stages[rank.role.stage].attention.batch_shards;
  const int64_t sequences = (assumptions.sequences + shards - 1) / shards;
  const int64_t blocks = kv_blocks(assumptions.context_tokens);
  return rank.layers.size() * model.cache_width(rank.kv_heads.size()) *
         size_of(compute_type(assumptions.dtype)) * sequences * blocks * kv_block_tokens;
}

}  // namespace

std::string range_text(const Interval& range) {
  if (range.empty()) return "-";
  if (range.size() == 1) return fmt::format("{}", range.begin);
  return fmt::format("{}-{}", range.begin, range.end - 1);
}

std::vector<RankSummary> summarise(const Plan& plan, const ModelConfig& model,
                                   const MemoryAssumptions& assumptions) {
  std::vector<RankSummary> ranks;
  const std::vector<int64_t> updated = updated_elements(plan, model, true);
  for (int number = 0; number < plan.ranks(); ++number) {
    RankSummary rank{.rank = number, .role = role_of(plan, number)};
    const Stage& stage = plan.stages[rank.role.stage];
    rank.layers = stage.layers;
    if (rank.role.attention) {
      rank.heads = stage.attention.head_range(rank.role.place.group);
      rank.kv_heads = kv_heads_of(model, rank.heads);
      rank.kv_bytes = kv_bytes_of(plan, model, rank, assumptions);
    }
    rank.experts = experts_text(stage.experts.front(), rank.role.local_rank);
    if (stage.experts.size() > 1) rank.experts += " (first layer)";
    const std::vector<Region> held = holdings(plan, model, number);
    rank.parameters = elements_of(held);
    rank.weight_bytes = weight_bytes(held, assumptions.dtype);
    rank.gradient_bytes = rank.parameters * size_of(DType::f32);
    const int64_t numbers_a_weight = assumptions.dtype == DType::f32 ? 2 : 3;
    rank.optimizer_bytes =
        updated[static_cast<size_t>(number)] * numbers_a_weight * size_of(DType::f32);
    ranks.push_back(std::move(rank));
  }
  return ranks;
}

}  // namespace tandem::cli
