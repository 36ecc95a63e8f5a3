#include "tandem/planner/simulation.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "planner/clusters.h"
#include "world/models.h"

namespace tandem::test {
namespace {

struct Sent {
  MessageKind kind;
  int16_t layer, micro_batch;
  int32_t peer;
  double bytes;
  auto operator<=>(const Sent&) const = default;
};

// What each rank has received, in a fixed order.
std::vector<std::vector<Sent>> received(Engine& engine) {
  std::vector<std::vector<Sent>> all;
  for (int rank = 0; rank < engine.plan().ranks(); ++rank) {
    auto& own = all.emplace_back();
    for (const Span& span : engine.world().recorder(rank).spans())
      if (span.lane == Lane::message && span.kind != MessageKind::control)
        own.push_back({span.kind, span.layer, span.micro_batch, span.peer, span.cost.bytes});
    std::ranges::sort(own);
  }
  return all;
}

std::vector<SequenceTokens> work(const ModelConfig& model) {
  std::vector<SequenceTokens> sequences;
  for (int32_t s = 0; s < 6; ++s)
    sequences.push_back({.slot = s, .tokens = random_tokens(5, s, 3 + 7 * s, model.vocab_size)});
  return sequences;
}

void infer(Engine& engine) {
  engine.plan_memory(6, 64);
  engine.infer(work(engine.model()));
}

// Sequences in two groups of micro-batches.
void train(Engine& engine) {
  TrainingBatch batch{.sequences = 12, .sequence_tokens = 7};
  batch.inputs = random_tokens(5, 0, 12 * 7, engine.model().vocab_size);
  batch.targets = random_tokens(5, 1, 12 * 7, engine.model().vocab_size);
  batch.weights.assign(12 * 7, 1.0f);
  engine.train(batch, {.learning_rate = 1e-3f, .groups = 2});
}

class SameMessages : public ::testing::TestWithParam<const char*> {
 protected:
  // The simulated ranks send what the real ones do, message by message, under the recorded routing.
  static void expect(void (*step)(Engine&), bool trains) {
    const ModelConfig model = small_model();
    const Plan plan = make_plan(GetParam(), model);
    const Cluster cluster = small_cluster();
    std::vector<int> nodes;  // on the same nodes, so that collectives take the same steps
    for (int rank = 0; rank < plan.ranks(); ++rank) nodes.push_back(cluster.node_of(rank));
    ParameterStore store = random_store(model, DType::f32);
    Engine engine(plan, store, WorldSettings{.rank = {.trainable = trains, .nodes = nodes}});
    engine.record_routing();
    step(engine);
    const auto real = received(engine);

    ParameterStore shapes = ParameterStore::shapes(model, DType::f32);
    const SimSettings settings{.routing = recorded(engine, trains), .trainable = trains};
    Engine simulation(plan, shapes, [&](const Plan& p, ParameterStore& s) {
      return std::make_unique<SimWorld>(p, s, cluster, settings);
    });
    step(simulation);
    const auto simulated = received(simulation);
    ASSERT_EQ(simulated.size(), real.size());
    for (size_t rank = 0; rank < real.size(); ++rank)
      EXPECT_EQ(simulated[rank], real[rank]) << "rank " << rank;
  }

 private:
  // By way of a file, as `generate --record-routing` writes it.
  static Routing recorded(const Engine& engine, bool trains) {
    const auto file =
        std::filesystem::temp_directory_path() /
        fmt::format("tandem-routing-{}-{}.csv", std::hash<std::string>()(GetParam()), trains);
    std::ofstream(file) << routing_csv(engine.routing(), engine.model().top_k);
    Routing routing = make_routing(file.string(), engine.model(), 0);
    std::filesystem::remove(file);
    return routing;
  }
};

TEST_P(SameMessages, AsTheRealRanksInInference) { expect(infer, false); }
TEST_P(SameMessages, AsTheRealRanksInTraining) { expect(train, true); }

INSTANTIATE_TEST_SUITE_P(Plans, SameMessages,
                         ::testing::Values("single", "tp:ranks=8",
                                           "tp-pp:ranks=8,stages=2,micro_batches=2", "ep:ranks=16",
                                           "ma:attention=8,experts=8,sequence=2",
                                           "ma:attention=12,experts=4,exchange=sums",
                                           "ma:attention=5,experts=3,micro_batches=4",
                                           "ma:attention=2,experts=3,replicas=2"));

Workload workload(WorkKind kind) { return {.kind = kind, .sequences = 12, .context_tokens = 48}; }

TEST(Simulate, IsDeterministic) {
  const Cluster cluster = small_cluster();
  const Plan plan = make_plan("ma:attention=3,experts=5,micro_batches=3", small_model());
  for (const WorkKind kind : work_kinds) {
    const Prediction a = simulate(small_model(), plan, cluster, workload(kind), {.steps = 2});
    const Prediction b = simulate(small_model(), plan, cluster, workload(kind), {.steps = 2});
    EXPECT_EQ(a.step_seconds, b.step_seconds);
    EXPECT_EQ(a.events, b.events);
  }
}

// No step is faster than its floor; a slower cluster or more work never makes one faster.
TEST(Simulate, KeepsToWhatIsPossible) {
  for (const char* text : {"single", "tp:ranks=4", "ep:ranks=8", "tp-pp:ranks=2,stages=2",
                           "ma:attention=8,experts=8,micro_batches=2", "ma:attention=5,experts=3"})
    for (const WorkKind kind : work_kinds) {
      SCOPED_TRACE(fmt::format("{} {}", text, static_cast<int>(kind)));
      const Plan plan = make_plan(text, small_model());
      const Cluster cluster = small_cluster();
      const auto seconds = [&](const Cluster& c, Workload work) {
        const Prediction p = simulate(small_model(), plan, c, work, {});
        EXPECT_GE(p.step_seconds, p.floor_seconds);
        return p.step_seconds;
      };
      const double base = seconds(cluster, workload(kind));
      Cluster slow = cluster;
      slow.types[0].memory_bytes_per_second /= 2;
      slow.types[0].flops_per_second["bf16"] /= 2;
      EXPECT_GE(seconds(slow, workload(kind)), base);
      Cluster far = cluster;
      for (Node& node : far.nodes)
        node.nic.bytes_per_second /= 2, node.inside.bytes_per_second /= 2;
      EXPECT_GE(seconds(far, workload(kind)), base);
      Workload more = workload(kind);
      more.sequences *= 2;
      EXPECT_GE(seconds(cluster, more), base);
    }
}

// One stage works on a micro-batch while the other works on the next, also where all-reduces stop
// each of them twice a layer: of n micro-batches n + 1 turns are left of 2 n.
TEST(Simulate, StagesOverlap) {
  const ModelConfig model = read_config(TANDEM_SOURCE_DIR "/configs/models/ma-4096/config.json");
  const Cluster cluster = read_cluster(TANDEM_SOURCE_DIR "/configs/clusters/a100-16.yaml");
  const Workload work{.kind = WorkKind::prefill, .sequences = 16, .context_tokens = 1024};
  const auto seconds = [&](const std::string& plan) {
    return simulate(model, make_plan(plan, model), cluster, work, {}).step_seconds;
  };
  for (const std::string plan : {"pp:stages=2", "tp-pp:ranks=4,stages=2"})
    for (const int micro_batches : {2, 4}) {
      const double share = seconds(plan + ",micro_batches=" + std::to_string(micro_batches)) /
                           seconds(plan + ",micro_batches=1");
      EXPECT_NEAR(share, (micro_batches + 1.0) / (2 * micro_batches), 0.1)
          << plan << ", " << micro_batches;
    }
}

TEST(Simulate, RefusesWhatDoesNotFit) {
  const Cluster cluster = small_cluster();
  const auto refusal = [&](const char* plan, Workload work, SimulationSettings settings) {
    try {
      simulate(small_model(), make_plan(plan, small_model()), cluster, work, settings);
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(refusal("ma:attention=12,experts=5", {}, {}),
            "plan ma:attention=12,experts=5: rank 16 sits on device 16, cluster small has 16");
  EXPECT_EQ(refusal("ep:ranks=2", {}, {.devices = {3, 3}}),
            "plan ep:ranks=2: two ranks sit on device 3");
  EXPECT_EQ(refusal("single", {.context_tokens = 1000}, {}),
            "1001 tokens of context: the model has 256 positions");
  EXPECT_EQ(refusal("single", {.context_tokens = 16}, {.routing = "zipf:x"}),
            "--routing zipf:x: expected uniform, zipf:A with A at or above zero, or a file");
}

}  // namespace
}  // namespace tandem::test
