#include "tandem/plan/difference.h"

#include <algorithm>

#include "tandem/base/error.h"

namespace tandem {

std::vector<Transfer> transfers(const std::vector<std::vector<Region>>& have,
                                const std::vector<std::vector<Region>>& need) {
  // Holders from `ranks` on are those who need.
  const auto ranks = static_cast<int>(have.size());
  std::vector<std::vector<Region>> both = have;
  both.insert(both.end(), need.begin(), need.end());
  std::vector<Transfer> result;
  for (const Shard& shard : cut(both)) {
    const auto& holders = shard.holders;  // ascending
    const auto sources = std::ranges::lower_bound(holders, ranks) - holders.begin();
    for (auto i = static_cast<size_t>(sources); i < holders.size(); ++i) {
      TANDEM_CHECK(sources > 0, "nobody has a part of parameter kind {} that rank {} needs",
                   static_cast<int>(shard.region.id.kind), holders[i] - ranks);
      const int to = holders[i] - ranks;
      const bool stays = std::binary_search(holders.begin(), holders.begin() + sources, to);
      const int from = stays ? to : holders[i % static_cast<size_t>(sources)];
      result.push_back({shard.region, from, to});
    }
  }
  return result;
}

namespace {

struct CacheHolder {
  int rank = 0;
  Interval heads;
};

std::vector<CacheHolder> cache_holders(const Plan& plan, const ModelConfig& model, int slot,
                                       int64_t layer) {
  const SlotPlace place = place_of_slot(plan, slot);
  std::vector<CacheHolder> holders;
  for (const Stage& stage : plan.stages) {
    if (layer < stage.layers.begin || layer >= stage.layers.end) continue;
    const AttentionGrid& grid = stage.attention;
    const int batch = home_shard(place.home, plan.homes(), stage);
    for (int sequence = 0; sequence < grid.sequence_shards; ++sequence)
      for (int group = 0; group < grid.groups(); ++group)
        holders.push_back({place.copy * plan.ranks_per_copy() + grid.rank(batch, sequence, group),
                           model.latent_attention() ? Interval{0, 1}
                                                    : kv_heads_of(model, grid.head_range(group))});
  }
  return holders;
}

}  // namespace

std::vector<CacheTransfer> cache_transfers(const Plan& before, const Plan& after,
                                           const ModelConfig& model, int slot, int64_t layer) {
  const std::vector<CacheHolder> sources = cache_holders(before, model, slot, layer);
  std::vector<CacheTransfer> result;
  for (const CacheHolder& to : cache_holders(after, model, slot, layer)) {
    const auto own = std::ranges::find(sources, to.rank, &CacheHolder::rank);
    for (int64_t head = to.heads.begin; head < to.heads.end;) {
      const auto has = [&](const CacheHolder& holder) {
        return holder.heads.contains(Interval{head, head + 1});
      };
      const auto from =
          own != sources.end() && has(*own) ? own : std::ranges::find_if(sources, has);
      TANDEM_CHECK(from != sources.end(), "nobody has K/V head {} of slot {}", head, slot);
      Interval heads = overlap(from->heads, {head, to.heads.end});
      if (from != own && own != sources.end() && own->heads.begin > head)
        heads.end = std::min(heads.end, own->heads.begin);
      result.push_back({from->rank, to.rank, heads, from->heads, to.heads});
      head = heads.end;
    }
  }
  return result;
}

}  // namespace tandem
