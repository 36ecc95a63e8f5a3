#include "tandem/plan/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "plan/models.h"
#include "tandem/base/error.h"
#include "tandem/plan/shorthand.h"

namespace tandem::test {
namespace {

struct Case {
  ModelConfig model;
  Plan plan;
};

// Every plan with every model that it fits, and two with placements that differ by layer.
std::vector<Case> cases() {
  std::vector<Case> result;
  for (const ModelConfig& model :
       {model_of_32_heads(), model_of_every_part(), model_of_few_heads()})
    for (const std::string& text : many_plans()) {
      try {
        result.push_back({model, make_plan(text, model)});
      } catch (const InputError&) {  // more stages than layers, more head groups than heads
      }
    }
  EXPECT_GT(result.size(), 60u);
  for (const char* text : {"ma:attention=3,experts=4,replicas=2", "tp:ranks=4"}) {
    const ModelConfig model = model_of_every_part();
    Plan plan = make_plan(text, model);
    plan.stages[0].experts.resize(model.layers, plan.stages[0].experts[0]);
    plan.stages[0].experts[1][2] = {{{0, 1, 2}}};
    plan.stages[0].experts[3][6] = {{{2}}, {{1, 3}}};
    validate(plan, model);
    result.push_back({model, plan});
  }
  return result;
}

// How often each element of each parameter is in some regions.
class Counts {
 public:
  explicit Counts(const ModelConfig& model) {
    for (const Parameter& p : parameters(model)) {
      counts_[p.id].assign(p.elements(), 0);
      widths_[p.id] = p.cols;
    }
  }
  void add(const Region& region) {
    auto& counts = counts_.at(region.id);
    const int64_t width = widths_.at(region.id);
    ASSERT_TRUE((Interval{0, width}).contains(region.cols));
    ASSERT_TRUE((Interval{0, static_cast<int64_t>(counts.size()) / width}).contains(region.rows));
    for (int64_t row = region.rows.begin; row < region.rows.end; ++row)
      for (int64_t col = region.cols.begin; col < region.cols.end; ++col)
        ++counts[row * width + col];
  }
  int least() const {
    return extreme([](int a, int b) { return std::min(a, b); });
  }
  int most() const {
    return extreme([](int a, int b) { return std::max(a, b); });
  }

 private:
  template <class Choose>
  int extreme(Choose choose) const {
    int result = counts_.begin()->second.front();
    for (const auto& [id, counts] : counts_)
      for (const int count : counts) result = choose(result, count);
    return result;
  }
  std::map<ParameterId, std::vector<int>> counts_;
  std::map<ParameterId, int64_t> widths_;
};

TEST(Layout, RanksHoldEveryElementOfEveryParameterAndNoneTwice) {
  for (const auto& [model, plan] : cases()) {
    Counts all(model);
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      Counts own(model);
      for (const Region& region : holdings(plan, model, rank)) {
        EXPECT_GT(region.elements(), 0);
        own.add(region);
        all.add(region);
      }
      EXPECT_LE(own.most(), 1) << plan.name << " rank " << rank;
    }
    EXPECT_GE(all.least(), plan.copies) << plan.name;
  }
}

TEST(Layout, ShardsPartitionEveryParameterAndHoldersHoldThemWhole) {
  for (const auto& [model, plan] : cases()) {
    std::vector<std::vector<Region>> held;
    for (int rank = 0; rank < plan.ranks(); ++rank) held.push_back(holdings(plan, model, rank));
    Counts counts(model);
    std::vector<int64_t> in_shards(plan.ranks()), in_holdings(plan.ranks());
    for (const Shard& shard : shards(plan, model)) {
      counts.add(shard.region);
      ASSERT_FALSE(shard.holders.empty());
      EXPECT_TRUE(std::ranges::is_sorted(shard.holders));
      for (const int holder : shard.holders) {
        in_shards[holder] += shard.region.elements();
        EXPECT_TRUE(std::ranges::any_of(held[holder],
                                        [&](const Region& region) {
                                          return region.id == shard.region.id &&
                                                 region.rows.contains(shard.region.rows) &&
                                                 region.cols.contains(shard.region.cols);
                                        }))
            << plan.name << " rank " << holder;
      }
    }
    EXPECT_EQ(counts.least(), 1) << plan.name;
    EXPECT_EQ(counts.most(), 1) << plan.name;
    // Each holder holds the shard; that it is no other rank's follows from the sizes.
    for (int rank = 0; rank < plan.ranks(); ++rank)
      for (const Region& region : held[rank]) in_holdings[rank] += region.elements();
    EXPECT_EQ(in_shards, in_holdings) << plan.name;
  }
}

TEST(Layout, PiecesPartitionTheirShard) {
  for (const auto& [model, plan] : cases()) {
    Counts counts(model);
    for (const Shard& shard : shards(plan, model))
      for (int i = 0; i < static_cast<int>(shard.holders.size()); ++i) {
        const Region piece = shard_piece(shard, i);
        EXPECT_EQ(piece.id, shard.region.id);
        EXPECT_TRUE(shard.region.rows.contains(piece.rows));
        EXPECT_TRUE(shard.region.cols.contains(piece.cols));
        counts.add(piece);
      }
    EXPECT_EQ(counts.least(), 1) << plan.name;
    EXPECT_EQ(counts.most(), 1) << plan.name;
  }
}

TEST(Layout, PiecesOfFewRowsAreColumns) {
  const Shard shard{{{ParameterKind::attention_norm, 0}, {0, 1}, {10, 15}}, {2, 4, 9}};
  EXPECT_EQ(shard_piece(shard, 0).cols, (Interval{10, 11}));
  EXPECT_EQ(shard_piece(shard, 1).cols, (Interval{11, 13}));
  EXPECT_EQ(shard_piece(shard, 2).cols, (Interval{13, 15}));
}

// The whole of a rank's memory under a plan, where the numbers are plain.
TEST(Layout, SeparatedRanksHoldAttentionOrExperts) {
  const ModelConfig model = model_of_32_heads();
  const Plan plan = make_plan("ma:attention=8,experts=8", model);
  for (int rank = 0; rank < 16; ++rank)
    for (const Region& region : holdings(plan, model, rank))
      EXPECT_EQ(region.id.expert >= 0, rank >= 8) << rank;
  int64_t expert_elements = 0;
  for (const Region& region : holdings(plan, model, 9)) {
    EXPECT_TRUE(region.id.expert == 2 || region.id.expert == 3);
    expert_elements += region.elements();
  }
  EXPECT_EQ(expert_elements, 4 * 2 * 3 * 40 * 64);
}

TEST(Layout, KvHeadsAreHeldByEveryGroupThatUsesThem) {
  const ModelConfig model = model_of_32_heads();  // 4 query heads to a K/V head
  EXPECT_EQ(kv_heads_of(model, {0, 4}), (Interval{0, 1}));
  EXPECT_EQ(kv_heads_of(model, {3, 6}), (Interval{0, 2}));
  EXPECT_EQ(kv_heads_of(model, {6, 7}), (Interval{1, 2}));
  EXPECT_EQ(kv_heads_of(model, {0, 32}), (Interval{0, 8}));
  const Plan plan = make_plan("ma:attention=12,experts=4", model);
  const ParameterId key{ParameterKind::key, 0};
  int64_t rows = 0;
  for (int rank = 0; rank < 12; ++rank)
    for (const Region& region : holdings(plan, model, rank))
      if (region.id == key) rows += region.rows.size();
  EXPECT_GT(rows, model.kv_heads * model.head_dim);  // uneven groups share K/V heads
}

TEST(Layout, LatentRowsAreMadeByEveryRankAndHeadsAreDivided) {
  ModelConfig model = model_of_32_heads();
  model.kv_heads = 1;
  model.kv_latent = 10;
  model.query_latent = 9;
  model.unrotated_dim = model.rotary_dim = 4;
  model.head_dim = 8;
  model.value_dim = 5;
  const Plan plan = make_plan("tp:ranks=3", model);
  std::map<ParameterKind, int64_t> rows;
  for (int rank = 0; rank < 3; ++rank)
    for (const Region& region : holdings(plan, model, rank))
      if (region.id.layer == 0) rows[region.id.kind] += region.rows.size();
  EXPECT_EQ(rows[ParameterKind::key], 3 * 14);
  EXPECT_EQ(rows[ParameterKind::query_latent], 3 * 9);
  EXPECT_EQ(rows[ParameterKind::latent_norm], 3);
  EXPECT_EQ(rows[ParameterKind::query], 32 * 8);
  EXPECT_EQ(rows[ParameterKind::latent_up], 32 * 9);
}

TEST(Layout, CopiesHoldTheSame) {
  const ModelConfig model = model_of_every_part();
  const Plan plan = make_plan("ma:attention=3,experts=5,copies=2", model);
  for (int rank = 0; rank < 8; ++rank)
    EXPECT_EQ(holdings(plan, model, rank), holdings(plan, model, rank + 8));
}

}  // namespace
}  // namespace tandem::test
