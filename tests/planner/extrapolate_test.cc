#include "tandem/planner/extrapolate.h"

#include <gtest/gtest.h>

#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

ModelConfig deep_model() {
  ModelConfig model = read_config(TANDEM_SOURCE_DIR "/configs/models/dbrx/config.json");
  model.layers = 16;
  return model;
}
Cluster cluster() { return read_cluster(TANDEM_SOURCE_DIR "/configs/clusters/a100-64.yaml"); }

struct Depths {
  Prediction full, from_three;
};
Depths depths(const char* text, const SimulationSettings& settings) {
  const ModelConfig model = deep_model();
  const Plan plan = plan_from_shorthand(text, model);
  const Workload work{.sequences = 256, .context_tokens = 650};
  SimulationSettings shallow = settings;
  shallow.stage_layers = 3;
  return {simulate(model, plan, cluster(), work, settings),
          simulate(model, plan, cluster(), work, shallow)};
}

// Where all layers have the same load: traffic, memory and floor exactly, time but for what the
// ends of the stack overlap with.
TEST(Extrapolate, TellsEqualLayers) {
  const int64_t experts = deep_model().experts;
  const SimulationSettings even{.recorded = [experts](int64_t, uint64_t token,
                                                      std::span<int32_t> chosen) {
    for (size_t i = 0; i < chosen.size(); ++i)
      chosen[i] =
          static_cast<int32_t>((token * 2654435761u / 7 + i * 5) % static_cast<uint64_t>(experts));
  }};
  for (const char* text : {"ep:ranks=8", "tp:ranks=8", "ma:attention=4,experts=4,batch=4",
                           "ma:attention=8,experts=8,batch=8,micro_batches=2",
                           "ma:attention=4,experts=4,exchange=sums,micro_batches=2"}) {
    SCOPED_TRACE(text);
    const auto [full, some] = depths(text, even);
    EXPECT_NEAR(some.step_seconds / full.step_seconds, 1, 2e-4);
    EXPECT_NEAR(some.floor_seconds / full.floor_seconds, 1, 1e-6);
    EXPECT_NEAR(some.energy.joules() / full.energy.joules(), 1, 2e-4);
    EXPECT_NEAR(some.metrics.utilisation, full.metrics.utilisation, 2e-4);
    EXPECT_NEAR(some.metrics.communication_share, full.metrics.communication_share, 2e-3);
    EXPECT_EQ(some.messages, full.messages);
    EXPECT_EQ(some.message_bytes, full.message_bytes);
    EXPECT_EQ(some.fullest().parameters, full.fullest().parameters);
    EXPECT_EQ(some.fullest().kv_cache, full.fullest().kv_cache);
  }
}

// With routing drawn anew in every layer three layers stand for sixteen, within some percent.
TEST(Extrapolate, IsCloseForDrawnRouting) {
  const std::vector<std::pair<const char*, double>> cases{
      {"ep:ranks=8", 0.02},
      {"ma:attention=8,experts=8,batch=8,micro_batches=3", 0.02},
      {"tp-pp:ranks=4,stages=2,micro_batches=2", 0.05}};
  for (const auto& [text, bound] : cases) {
    SCOPED_TRACE(text);
    const auto [full, some] = depths(text, {});
    EXPECT_NEAR(some.step_seconds / full.step_seconds, 1, bound);
    EXPECT_NEAR(static_cast<double>(some.fullest().all() - full.fullest().all()), 0,
                0.03 * static_cast<double>(full.fullest().all()));
  }
}

// Many stages, several micro-batches: it takes more layers to fall into step.
TEST(Extrapolate, IsNearForManyStages) {
  ModelConfig model = deep_model();
  model.layers = 40;
  for (const WorkKind kind : {WorkKind::decode, WorkKind::prefill, WorkKind::train})
    for (const char* text : {"pp:stages=8,micro_batches=4", "ep:ranks=2,stages=8,micro_batches=3",
                             "tp-pp:ranks=4,stages=8,micro_batches=4"}) {
      SCOPED_TRACE(testing::Message() << text << ", kind " << static_cast<int>(kind));
      const Plan plan = plan_from_shorthand(text, model);
      const Workload work{.kind = kind, .sequences = 32, .context_tokens = 128};
      const Prediction full = simulate(model, plan, cluster(), work, {});
      const Prediction some = simulate(model, plan, cluster(), work, {.stage_layers = 3});
      EXPECT_NEAR(some.step_seconds / full.step_seconds, 1, 0.06);
      EXPECT_NEAR(
          static_cast<double>(some.fullest().all()) / static_cast<double>(full.fullest().all()), 1,
          0.03);
    }
}

}  // namespace
}  // namespace tandem
