// Live balancing with real ranks: a router that favours some experts (about Zipf 1.2) and a rank
// that is slowed to half. Every device is slowed by `pace`, so that more ranks than cores can work
// at once; what is measured is how their times relate. Beside it the best plan that is found
// knowing all loads and speeds, measured the same way.
//   balance [PROGRAM]: in this process, and with PROGRAM (build/tandem) in three processes too
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "balance/knowing_plans.h"
#include "tandem/balance/balancer.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/planner/workload.h"
#include "tandem/world/cluster/cluster_world.h"
#include "tandem/world/cluster/process_starter.h"

namespace tandem {
namespace {

constexpr int ranks = 6, every = 30, intervals = 7, measured_steps = 30;
constexpr double pace = 8;
constexpr Workload work{.kind = WorkKind::decode, .sequences = 32, .context_tokens = 256};

ModelConfig model() {
  ModelConfig c;
  c.vocab_size = 512;
  c.hidden_size = 256;
  c.layers = 3;
  c.heads = c.kv_heads = 16;
  c.head_dim = 32;
  c.max_positions = 1024;
  c.experts = 16;
  c.top_k = 2;
  c.expert_hidden = 1024;
  c.router_bias = true;
  return c;
}

ParameterStore skewed_store(const ModelConfig& m) {
  const auto device = make_cpu_device(1);
  ParameterStore store = ParameterStore::random(m, 1, DType::bf16, *device);
  for (int32_t layer = 0; layer < m.layers; ++layer) {
    std::vector<float> bias;
    for (int e = 0; e < m.experts; ++e)  // in another order in every layer
      bias.push_back(-0.02f * std::log(1.0f + static_cast<float>((5 * e + 3 * layer) % m.experts)));
    device->execute(CopyRows{.from = device->upload(bias, 1, m.experts),
                             .to = store.whole({ParameterKind::router_bias, layer})});
  }
  return store;
}

struct Run {
  Engine& engine;
  WorkloadRunner runner;
  int steps = 0;
  Run(Engine& e, int64_t most) : engine(e), runner(e, work, most, e.model().vocab_size) {
    runner.fill_context();
  }
  double seconds(int count) {
    std::vector<double> each;
    for (int i = 0; i < count; ++i) {
      const double start = engine.world().controller().now_seconds();
      runner.step(steps++);
      each.push_back(engine.world().controller().now_seconds() - start);
    }
    return median(each);
  }
};

void balance(const std::string& title, const std::string& plan, int slow_rank,
             const std::function<MakeWorld(const WorldSettings&)>& world) {
  const ModelConfig m = model();
  ParameterStore store = skewed_store(m);
  std::vector<double> paces(ranks, pace);
  paces[slow_rank] *= 2;
  Engine engine(make_plan(plan, m), store, world({.threads = 1, .pace = paces}));
  Run run(engine, intervals * every + 12 * measured_steps);
  fmt::print("{}, {}, rank {} slowed to half\n", title, plan, slow_rank);
  Balancer balancer(engine, {.every_steps = every});
  for (int i = 0; i < intervals; ++i) {
    std::optional<BalanceRecord> record;
    std::vector<double> each;
    while (!record) {
      each.push_back(run.seconds(1));
      record = balancer.after_step();
    }
    fmt::print(
        "  interval {}: {:6.2f} ms a step; errors {:4.1f} % linear {:5.1f} % network; {}{}\n",
        i + 1, 1e3 * median(each), 100 * record->linear_error, 100 * record->network_error,
        record->moved ? fmt::format("in {:.0f} ms moved ", 1e3 * record->move_seconds) : "",
        record->what);
  }
  engine.take_observation();
  const double reached = run.seconds(measured_steps);
  const Observation seen = engine.take_observation();
  std::vector<double> tokens;
  for (const int64_t some : seen.expert_tokens)
    tokens.push_back(static_cast<double>(some) / measured_steps);
  double best = std::numeric_limits<double>::infinity();
  std::string best_plan;
  // What an expert and a token cost beside each other is not known: three guesses.
  for (const auto& [expert, token] : {std::pair{1.0, 0.0}, {0.0, 1.0}, {1.0, 0.1}})
    for (const Plan& guess : test::knowing_plans(
             m, paces, tokens, [&](double some) { return expert + token * some; })) {
      engine.move_to(guess);
      const double seconds = run.seconds(measured_steps / 2);
      if (seconds < best) best = seconds, best_plan = guess.name;
    }
  fmt::print("  reached {:.2f} ms; knowing everything {:.2f} ms ({}): {:.2f} of it\n",
             1e3 * reached, 1e3 * best, best_plan, reached / best);
}

}  // namespace
}  // namespace tandem

int main(int count, char** arguments) {
  using namespace tandem;
  for (const auto& [plan, slow] : {std::pair{"ma:attention=3,experts=3", 4},
                                   {"ma:attention=3,experts=3", 1},
                                   {"ma:attention=1,experts=5", 5}}) {
    balance("local", plan, slow,
            [](const WorldSettings& settings) { return local_world(settings); });
    if (count < 2) continue;
    Fleet fleet({.processes = 3, .silent_seconds = 60},
                std::make_unique<ProcessStarter>(arguments[1], std::vector<ProcessPlace>(3)));
    balance("three processes", plan, slow, [&](const WorldSettings& settings) {
      return [&fleet, settings](const Plan& p, ParameterStore& s) {
        return std::make_unique<ClusterWorld>(p, s, settings, fleet);
      };
    });
  }
}
