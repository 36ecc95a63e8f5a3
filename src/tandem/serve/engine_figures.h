// What an engine's ranks have done lately, as the status page shows it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/trace/metrics.h"
#include "tandem/world/engine.h"

namespace tandem {

struct EngineFigures {
  Metrics metrics;  // since the look before
  struct RankTimeline {
    std::string title;
    // By lane: share of each of `pieces` equal parts of the last step.
    std::array<std::vector<double>, 4> shares;
  };
  static constexpr int64_t pieces = 240;
  std::vector<RankTimeline> timeline;
  double step_seconds = 0;
  std::vector<int64_t> expert_tokens;  // since the server began: [layer][expert]
};

// Looks at an engine between its steps, by its thread. WorldError where a rank cannot tell.
class EngineObserver {
 public:
  // Times by the clock of the engine's controller.
  EngineFigures look(Engine& engine, const TimeWindow& last_step);

 private:
  void draw(const std::vector<RankSpans>& ranks, const TimeWindow& step);

  std::optional<double> last_look_seconds_;
  TimeWindow drawn_;  // step
  std::vector<EngineFigures::RankTimeline> timeline_;
};

}  // namespace tandem
