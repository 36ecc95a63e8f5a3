// Balancing while a simulated cluster runs: where everything is known beforehand, and what is done
// can be held against what could be.
#include "tandem/balance/balancer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "balance/knowing_plans.h"
#include "planner/clusters.h"
#include "sanitized.h"
#include "tandem/planner/simulation.h"

namespace tandem::test {
namespace {

ModelConfig model() {
  ModelConfig c;
  c.vocab_size = 1000;
  c.hidden_size = 1024;
  c.layers = 3;
  c.heads = c.kv_heads = 16;
  c.head_dim = 64;
  c.max_positions = 4096;
  c.experts = 16;
  c.top_k = 2;
  c.expert_hidden = 2048;
  return c;
}

constexpr Workload work{.kind = WorkKind::decode, .sequences = 64, .context_tokens = 1024};
constexpr int every = 20;

SimulationSettings settings_for(const std::string& routing, int slow_rank) {
  SimulationSettings settings{.routing = routing};
  if (slow_rank >= 0) settings.faults = {parse_fault(fmt::format("rank:{},slow=2", slow_rank))};
  return settings;
}

struct Watched {
  Prediction prediction;
  std::vector<BalanceRecord> records;
  std::vector<Plan> plans;  // after each look
};

Watched balanced(const std::string& plan, SimulationSettings settings, int intervals) {
  Watched watched;
  std::unique_ptr<Balancer> balancer;
  settings.steps = intervals * every + 2;
  settings.between_steps = [&](Engine& engine) {
    if (!balancer)
      balancer = std::make_unique<Balancer>(engine, BalanceSettings{.every_steps = every});
    const auto record = balancer->after_step();
    if (!record) return;
    watched.records.push_back(*record);
    watched.plans.push_back(engine.plan());
  };
  watched.prediction = simulate(model(), make_plan(plan, model()), small_cluster(), work, settings);
  return watched;
}

double best_knowing_everything(int ranks, const SimulationSettings& settings, int slow_rank) {
  const ModelConfig m = model();
  std::vector<double> slowness(ranks, 1);
  if (slow_rank >= 0) slowness[slow_rank] = 2;
  const Prediction seen =
      simulate(m, make_plan(fmt::format("ep:ranks={}", ranks), m), small_cluster(), work, settings);
  const std::vector<double> tokens(seen.expert_tokens.begin(), seen.expert_tokens.end());
  // An expert's weights take 63 us to read, a token 13 us to compute.
  const auto seconds = [](double some) { return std::max(63e-6, 13e-6 * some); };
  double best = std::numeric_limits<double>::infinity();
  for (const Plan& plan : knowing_plans(m, slowness, tokens, seconds))
    best = std::min(best, simulate(m, plan, small_cluster(), work, settings).step_seconds);
  return best;
}

void expect_pace(const std::string& plan, int ranks, const std::string& routing, int slow_rank) {
  SCOPED_TRACE(fmt::format("{}, {}, slow rank {}", plan, routing, slow_rank));
  const SimulationSettings settings = settings_for(routing, slow_rank);
  const double best = best_knowing_everything(ranks, settings, slow_rank);
  const Watched watched = balanced(plan, settings, 12);
  const auto& steps = watched.prediction.steps_seconds;
  const double unbalanced = steps[0];
  for (size_t interval = 5; interval < watched.records.size(); ++interval)
    EXPECT_LE(watched.records[interval].step_seconds, 1.1 * best)
        << "interval " << interval << "; unbalanced " << unbalanced;
  // What has left a rank does not come back within five intervals.
  for (size_t i = 1; i < watched.plans.size(); ++i)
    for (size_t j = i + 1; j < std::min(watched.plans.size(), i + 5); ++j)
      if (watched.plans[i] != watched.plans[i - 1]) {
        EXPECT_NE(watched.plans[j], watched.plans[i - 1]) << i << " " << j;
      }
  EXPECT_GT(watched.records.back().network_error, 0);
  EXPECT_LT(watched.records.back().linear_error, 0.1);
}

TEST(Balancer, ComesNearTheBestForASkewedRouterAndASlowRank) {
  expect_pace("ma:attention=4,experts=4", 8, "zipf:1.2", 6);
  if (sanitized) return;  // those are slow
  expect_pace("ma:attention=4,experts=4", 8, "zipf:1.2", -1);
  expect_pace("ma:attention=4,experts=4", 8, "zipf:1.2", 1);
  expect_pace("ma:attention=6,experts=2", 8, "uniform", 0);
  expect_pace("ma:attention=2,experts=6,micro_batches=2", 8, "zipf:1.2", 3);
}

// Nothing is skewed: nothing moves.
TEST(Balancer, LeavesAloneWhatIsBalanced) {
  SimulationSettings settings = settings_for("uniform", -1);
  const Watched watched = balanced("ep:ranks=8", settings, 6);
  for (const BalanceRecord& record : watched.records) {
    EXPECT_FALSE(record.moved) << record.what;
    EXPECT_LT(record.imbalance, 0.05);
  }
}

TEST(Balancer, MovesInTrainingToo) {
  SimulationSettings settings = settings_for("uniform", 5);
  const Workload training{.kind = WorkKind::train, .sequences = 8, .context_tokens = 128};
  std::unique_ptr<Balancer> balancer;
  settings.steps = 24;
  std::vector<BalanceRecord> records;
  settings.between_steps = [&](Engine& engine) {
    if (!balancer) balancer = std::make_unique<Balancer>(engine, BalanceSettings{.every_steps = 4});
    if (const auto record = balancer->after_step()) records.push_back(*record);
  };
  simulate(model(), make_plan("ma:attention=4,experts=4", model()), small_cluster(), training,
           settings);
  ASSERT_GE(records.size(), 5u);
  EXPECT_TRUE(std::ranges::any_of(records, &BalanceRecord::moved));
  EXPECT_LT(records.back().step_seconds, 0.8 * records.front().step_seconds);
}

TEST(Balancer, RefusesSettingsWithoutSense) {
  const auto refuse = [](const BalanceSettings& balance) {
    SimulationSettings settings;
    settings.steps = 2;
    settings.between_steps = [&](Engine& engine) { Balancer(engine, balance); };
    EXPECT_THROW(
        simulate(model(), make_plan("ep:ranks=8", model()), small_cluster(), work, settings),
        InputError);
  };
  refuse({.every_steps = 0});
  refuse({.threshold = 0});
  refuse({.threshold = 1});
}

}  // namespace
}  // namespace tandem::test
