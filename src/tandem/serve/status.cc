#include "tandem/serve/status.h"

#include <cmath>

#include "tandem/base/clock.h"
#include "tandem/serve/quantiles.h"

namespace tandem {
namespace {

Json quantiles_json(const Histogram& histogram) {
  const Quantiles q = quantiles(histogram.recent_seconds);
  return {{"p50", q.p50}, {"p90", q.p90}, {"p99", q.p99}, {"count", histogram.count()}};
}

std::vector<int> percents(const std::vector<double>& shares) {
  std::vector<int> result;
  for (const double share : shares) result.push_back(static_cast<int>(std::lround(100 * share)));
  return result;
}

Json group_json(const GroupUse& use) {
  return {{"ranks", use.ranks}, {"utilization", use.utilisation}, {"own_share", use.own_share}};
}

Json timeline_json(const EngineFigures& figures) {
  Json ranks = Json::array();
  for (const auto& rank : figures.timeline) {
    Json row{{"rank", rank.title}};
    for (size_t lane = 0; lane < rank.shares.size(); ++lane)
      row[std::string(lane_name(static_cast<Lane>(lane)))] = percents(rank.shares[lane]);
    ranks.push_back(std::move(row));
  }
  return {{"step_seconds", figures.step_seconds}, {"ranks", ranks}};
}

Json expert_json(const EngineFigures& figures, int64_t experts) {
  Json layers = Json::array();
  const auto& tokens = figures.expert_tokens;
  for (auto at = tokens.begin(); at != tokens.end(); at += experts)
    layers.push_back(std::vector<int64_t>(at, at + experts));
  return layers;
}

}  // namespace

Json status_json(const StatusFacts& facts, Scheduler& scheduler) {
  const Statistics::Counts counts = scheduler.statistics().counts();
  const Statistics::Load load = scheduler.statistics().load();
  const auto failure = scheduler.failure();
  const auto figures = scheduler.figures();
  int64_t requests = 0;
  for (const auto& [key, count] : counts.requests) requests += count;
  return {{"model", facts.model},
          {"plan", facts.plan},
          {"ranks", facts.ranks},
          {"layers", facts.layers},
          {"experts", facts.experts},
          {"context_tokens", facts.context_tokens},
          {"uptime_seconds", wall_seconds() - facts.started_seconds},
          {"failure", failure ? Json(*failure) : Json()},
          {"waiting", load.waiting},
          {"running", load.running},
          {"kv_used_tokens", load.kv_used_tokens},
          {"kv_tokens", load.kv_tokens},
          {"recoveries", load.recoveries},
          {"requests", requests},
          {"prompt_tokens", counts.prompt_tokens},
          {"generated_tokens", counts.generated_tokens},
          {"preemptions", counts.preemptions},
          {"steps", counts.steps},
          {"ttft_seconds", quantiles_json(counts.ttft)},
          {"tpot_seconds", quantiles_json(counts.tpot)},
          {"attention", group_json(figures->metrics.attention)},
          {"expert", group_json(figures->metrics.expert)},
          {"timeline", timeline_json(*figures)},
          {"expert_tokens", expert_json(*figures, facts.experts)}};
}

}  // namespace tandem
