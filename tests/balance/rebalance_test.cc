#include "tandem/balance/rebalance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tandem/base/random.h"
#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

ModelConfig model() {
  ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 64;
  c.layers = 2;
  c.heads = 12;
  c.kv_heads = 4;
  c.head_dim = 8;
  c.max_positions = 4096;
  c.experts = 8;
  c.top_k = 2;
  c.expert_hidden = 40;
  return c;
}

// Known times: a head costs `head`, a token of an expert `token`, an expert that has any `expert`.
class Known final : public TimeModel {
 public:
  Known(double per_unit, double per_token) : per_unit_(per_unit), per_token_(per_token) {}
  void fit(const std::vector<TimedWork>&) override {}
  double seconds(const LayerWork& work, double slowness) const override {
    return slowness * (per_unit_ * work.active + per_token_ * work.tokens);
  }

 private:
  double per_unit_, per_token_;
};

StepLoad zipf_load(const ModelConfig& m, double exponent, uint64_t seed) {
  StepLoad load{.tokens = 64, .context_tokens = 100};
  std::vector<double> shares;
  for (int i = 1; i <= m.experts; ++i) shares.push_back(std::pow(i, -exponent));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  const RandomSource random(seed, RandomStream::routing);
  for (int64_t layer = 0; layer < m.layers; ++layer) {
    std::vector<double> layer_shares = shares;
    for (size_t i = layer_shares.size(); i-- > 1;)
      std::swap(layer_shares[i], layer_shares[random.bits(layer, i) % (i + 1)]);
    for (const double share : layer_shares)
      load.expert_tokens.push_back(std::min(64.0, 128 * share / sum));
  }
  return load;
}

// The slowest rank of a layer over every way of putting each expert on one of the ranks.
double best_of_all(const ModelConfig& m, const StepLoad& load, int64_t layer,
                   const std::vector<double>& slowness, const TimeModel& time) {
  const auto ranks = slowness.size();
  double best = std::numeric_limits<double>::infinity();
  const ExpertShare share(load.tokens, &load.expert_tokens[layer * m.experts]);
  auto ways = static_cast<size_t>(std::pow(ranks, m.experts));
  for (size_t way = 0; way < ways; ++way) {
    std::vector<LayerWork> works(ranks);
    size_t rest = way;
    for (int64_t e = 0; e < m.experts; ++e, rest /= ranks) {
      works[rest % ranks].tokens += share.tokens(e, 1);
      works[rest % ranks].active += share.active(e, 1);
      works[rest % ranks].held += 1;
    }
    double slowest = 0;
    for (size_t rank = 0; rank < ranks; ++rank)
      if (!works[rank].empty())
        slowest = std::max(slowest, time.seconds(works[rank], slowness[rank]));
    best = std::min(best, slowest);
  }
  return best;
}

const Known nothing(0, 0);

TEST(Rebalance, PlacesExpertsNearlyAsWellAsPossible) {
  const ModelConfig m = model();
  const Known attention(1e-4, 0), experts(1e-4, 1e-5);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const StepLoad load = zipf_load(m, 1.2, seed);
    const std::vector<double> slowness = {1, seed % 2 == 0 ? 2.0 : 1.0, 1};
    const Forecast forecast{&attention, &experts, &nothing, {1, 1, 1, 1}};
    Forecast with = forecast;
    with.slowness = {1, slowness[0], slowness[1], slowness[2]};
    const Plan today = make_plan("ma:attention=1,experts=3", m);
    const RecentMoves none;
    const AttentionBounds bounds{1, 1};
    const Plan next = Rebalance(m, load, with, none, bounds).improve(today);
    validate(next, m);
    double best = 0;
    for (int64_t layer = 0; layer < m.layers; ++layer)
      best += best_of_all(m, load, layer, slowness, experts);
    const double found = forecast_step(next, m, load, with).expert_seconds;
    EXPECT_LE(found, 1.06 * best) << "seed " << seed;
    EXPECT_LE(found, forecast_step(today, m, load, with).expert_seconds);
  }
}

TEST(Rebalance, HeadsGoToFastRanks) {
  const ModelConfig m = model();
  const Known attention(1e-4, 0), experts(1e-5, 1e-6);
  const StepLoad load = zipf_load(m, 0, 1);
  const Forecast forecast{&attention, &experts, &nothing, {1, 2, 1, 1, 1}};
  const RecentMoves none;
  const Plan next =
      Rebalance(m, load, forecast, none, {4, 4}).improve(make_plan("ma:attention=4,experts=1", m));
  const std::vector<int>& heads = next.stages[0].attention.heads;
  EXPECT_EQ(heads[1], 2);
  EXPECT_EQ(std::ranges::max(heads), 4);
}

// Experts take three times as long as attention: ranks go over, one by one, as long as that makes
// the largest number of experts on a rank smaller.
TEST(Rebalance, RanksGoOverToTheGroupThatHasMoreToDo) {
  const ModelConfig m = model();
  const Known attention(1e-4, 0), experts(0, 3.0 * 12e-4 / 128);
  const StepLoad load = zipf_load(m, 0, 1);
  const Forecast forecast{&attention, &experts, &nothing, std::vector<double>(8, 1)};
  const RecentMoves none;
  const auto attention_ranks = [&](const std::string& text, const AttentionBounds& bounds) {
    Plan plan = make_plan(text, m);
    for (int look = 0; look < 8; ++look) {
      plan = Rebalance(m, load, forecast, none, bounds).improve(plan);
      validate(plan, m);
    }
    return plan.stages[0].attention.ranks.size();
  };
  EXPECT_EQ(attention_ranks("ma:attention=6,experts=2,micro_batches=2", {1, 8}), 4u);
  EXPECT_EQ(attention_ranks("ma:attention=6,experts=2,micro_batches=2", {5, 8}), 5u);
  EXPECT_EQ(attention_ranks("ma:attention=1,experts=7,micro_batches=2", {1, 8}), 2u);
  EXPECT_EQ(attention_ranks("ma:attention=6,experts=2,batch=6,micro_batches=2", {1, 8}), 4u);
}

TEST(Rebalance, NothingGoesBackAtOnce) {
  const ModelConfig m = model();
  const Known attention(1e-4, 0), experts(1e-4, 1e-5);
  const StepLoad load = zipf_load(m, 1.2, 3);
  const RecentMoves none;
  const AttentionBounds bounds{1, 3};
  Forecast forecast{&attention, &experts, &nothing, {1, 1, 4, 1}};
  const Plan today = make_plan("ma:attention=1,experts=3", m);
  const Plan next = Rebalance(m, load, forecast, none, bounds).improve(today);
  ASSERT_NE(next, today);
  RecentMoves recent;
  recent.begin_interval();
  recent.note(today, next, m.layers);
  forecast.slowness = {1, 1, 0.25, 1};  // now that rank is the fastest
  for (int64_t i = 0; i < RecentMoves::rest_intervals; ++i) {
    recent.begin_interval();
    const Plan then = Rebalance(m, load, forecast, recent, bounds).improve(next);
    for (int64_t layer = 0; layer < m.layers; ++layer)
      for (int e = 0; e < m.experts; ++e) {
        const auto& was = today.stages[0].placement(layer)[e][0].ranks;
        const auto& is = next.stages[0].placement(layer)[e][0].ranks;
        const auto& will = then.stages[0].placement(layer)[e][0].ranks;
        if (was != is) {
          EXPECT_NE(will, was) << "layer " << layer << ", expert " << e;
        }
      }
  }
  recent.begin_interval();
  EXPECT_NE(Rebalance(m, load, forecast, recent, bounds).improve(next), next);
}

// However slow a rank is, it keeps a role.
TEST(Rebalance, NobodyIsLeftWithoutARole) {
  const ModelConfig m = model();
  const Known attention(1e-4, 0), experts(1e-4, 1e-5);
  const StepLoad load = zipf_load(m, 1.2, 5);
  const RecentMoves none;
  for (const double slow : {30.0, 1e6}) {
    const Forecast forecast{&attention, &experts, &nothing, {1, 1, slow, 1, 1, slow}};
    Plan plan = make_plan("ma:attention=3,experts=3", m);
    for (int look = 0; look < 4; ++look) {
      plan = Rebalance(m, load, forecast, none, {}).improve(plan);
      validate(plan, m);
    }
  }
}

// A spare replica goes to the expert that needs it.
TEST(Rebalance, ReplicasFollowTheLoad) {
  const ModelConfig m = model();
  const Known attention(1e-5, 0), experts(0, 1e-5);
  StepLoad load = zipf_load(m, 0, 1);
  for (int64_t layer = 0; layer < m.layers; ++layer)
    for (int64_t e = 0; e < m.experts; ++e) load.expert_tokens[layer * m.experts + e] = e ? 4 : 60;
  Plan today = make_plan("ma:attention=1,experts=4", m);
  for (ExpertPlacement& placement : today.stages[0].experts)
    placement[7].push_back({{placement[0][0].ranks[0]}});  // expert 7 has two
  validate(today, m);
  const Forecast forecast{&attention, &experts, &nothing, std::vector<double>(5, 1)};
  const RecentMoves none;
  const Plan next = Rebalance(m, load, forecast, none, {1, 1}).improve(today);
  validate(next, m);
  EXPECT_EQ(next.stages[0].placement(0)[0].size(), 2u);
  EXPECT_EQ(next.stages[0].placement(0)[7].size(), 1u);
  EXPECT_LE(forecast_step(next, m, load, forecast).expert_seconds, 2 * 31 * 1e-5);
}

}  // namespace
}  // namespace tandem
