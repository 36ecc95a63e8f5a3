#include "tandem/serve/engine_figures.h"

#include <algorithm>

#include "tandem/trace/coverage.h"

namespace tandem {
namespace {

// A rank that has recorded so many has perhaps forgotten what was before them.
constexpr size_t spans_kept = 1 << 16;

}  // namespace

EngineFigures EngineObserver::look(Engine& engine, const TimeWindow& last_step) {
  const std::vector<RankSpans> ranks = engine.spans();
  TimeWindow window{last_look_seconds_.value_or(whole_window(ranks).begin_seconds),
                    engine.world().controller().now_seconds()};
  last_look_seconds_ = window.end_seconds;
  for (const RankSpans& rank : ranks)
    if (rank.spans.size() >= spans_kept)
      window.begin_seconds = std::max(window.begin_seconds, rank.spans.front().start_seconds);

  if (last_step != drawn_) draw(ranks, last_step);  // else its spans are forgotten by now
  return {.metrics = compute_metrics(ranks, window),
          .timeline = timeline_,
          .step_seconds = last_step.seconds(),
          .expert_tokens = engine.expert_tokens()};
}

void EngineObserver::draw(const std::vector<RankSpans>& ranks, const TimeWindow& step) {
  drawn_ = step;
  timeline_.clear();
  for (const RankSpans& rank : ranks) {
    auto& row = timeline_.emplace_back();
    row.title = rank_title(rank);
    for (size_t lane = 0; lane < row.shares.size(); ++lane)
      row.shares[lane] =
          lane_coverage(rank.spans, static_cast<Lane>(lane), step, EngineFigures::pieces);
  }
}

}  // namespace tandem
