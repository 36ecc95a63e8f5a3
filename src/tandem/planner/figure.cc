#include "tandem/planner/figure.h"

#include <algorithm>
#include <map>

#include "tandem/trace/expert_load.h"

namespace tandem {
namespace {

struct Run {
  const Prediction& p;
  const Workload& work;

  double tokens() const { return static_cast<double>(work.tokens()); }
  double most_tokens_per_second() const { return tokens() / p.floor_seconds; }
};

Figure share(double value) { return {.value = value, .most = 1, .limit = "all of the time"}; }

// A metric "a.b" is told by `a` and asked for `b`.
using Tell = Figure (*)(const Run&, const std::string& part);

Figure communication(const Run& run, const std::string& part) {
  const Metrics& metrics = run.p.metrics;
  if (part == "all") return share(metrics.communication_share);
  double sum = 0;
  for (const CommunicationUse& use : metrics.communication)
    if (message_kind_name(use.kind) == part ||
        (part == "experts" &&
         (use.kind == MessageKind::dispatch || use.kind == MessageKind::combine)))
      sum += use.share;
  return share(sum);
}

Figure memory(const Run& run, const std::string& part) {
  const Memory& m = run.p.fullest();
  const auto component = std::ranges::find(memory_parts, part, &MemoryPart::name);
  const int64_t bytes = component == std::end(memory_parts) ? m.all() : m.*component->bytes;
  return {
      .value = static_cast<double>(bytes), .most = m.limit_bytes, .limit = "memory of the device"};
}

std::vector<std::string> names_of_memory() {
  std::vector<std::string> names{"all"};
  for (const MemoryPart& part : memory_parts) names.emplace_back(part.name);
  return names;
}

// Of the experts of a layer, the mean over layers.
double load(const Run& run, double ExpertLoad::*figure) {
  const std::span<const int64_t> all = run.p.expert_tokens;
  const size_t experts = all.size() / run.p.layers;
  double sum = 0;
  for (size_t first = 0; first < all.size(); first += experts)
    sum += expert_load(all.subspan(first, experts)).*figure;
  return sum / static_cast<double>(run.p.layers);
}

Figure attention_over_experts(const Run& run, const std::string&) {
  const GroupUse &attention = run.p.metrics.attention, &expert = run.p.metrics.expert;
  return {.value = attention.own_share * attention.ranks / (expert.own_share * expert.ranks)};
}

struct Metric {
  Tell tell;
  std::vector<std::string> parts;
};

const std::map<std::string, Metric>& metrics() {
  static const std::map<std::string, Metric> known = {
      {"step_seconds",
       {[](const Run& run, const std::string&) {
          return Figure{run.p.step_seconds, run.p.floor_seconds,
                        std::numeric_limits<double>::infinity(), "the plan's floor"};
        },
        {}}},
      {"tokens_per_second",
       {[](const Run& run, const std::string&) {
          return Figure{run.p.tokens_per_second(run.work), 0, run.most_tokens_per_second(),
                        "the plan's floor"};
        },
        {}}},
      {"tokens_per_second_per_rank",
       {[](const Run& run, const std::string&) {
          return Figure{run.p.tokens_per_second(run.work) / run.p.ranks(), 0,
                        run.most_tokens_per_second() / run.p.ranks(), "the plan's floor"};
        },
        {}}},
      {"utilisation",
       {[](const Run& run, const std::string&) { return share(run.p.metrics.utilisation); }, {}}},
      {"bandwidth_share",
       {[](const Run& run, const std::string&) { return share(run.p.bandwidth_share); }, {}}},
      {"flops_share",
       {[](const Run& run, const std::string&) { return share(run.p.flops_share); }, {}}},
      {"waiting",
       {[](const Run& run, const std::string&) { return share(run.p.metrics.waiting.mean); }, {}}},
      {"communication",
       {communication,
        {"attention", "dispatch", "combine", "experts", "pipeline", "vocabulary", "gradient",
         "all"}}},
      {"memory", {memory, names_of_memory()}},
      {"joules_per_token",
       {[](const Run& run, const std::string&) {
          return Figure{run.p.joules_per_token(run.work),
                        run.p.idle_watts * run.p.floor_seconds / run.tokens(),
                        std::numeric_limits<double>::infinity(),
                        "idle power of all devices during the plan's floor"};
        },
        {}}},
      {"expert_share_deviation",
       {[](const Run& run, const std::string&) {
          return Figure{load(run, &ExpertLoad::share_deviation)};
        },
        {}}},
      {"expert_max_over_min",
       {[](const Run& run, const std::string&) {
          return Figure{
              .value = load(run, &ExpertLoad::max_over_min), .least = 1, .limit = "even loads"};
        },
        {}}},
      {"expert_used_share",
       {[](const Run& run, const std::string&) {
          return share(load(run, &ExpertLoad::used_share));
        },
        {}}},
      {"attention_over_expert_seconds", {attention_over_experts, {}}},
      {"stall_seconds",
       {[](const Run& run, const std::string&) { return Figure{run.p.stall_seconds()}; }, {}}},
      {"survived_share",
       {[](const Run& run, const std::string&) {
          return share(static_cast<double>(run.p.lost_devices) / std::max(run.p.failures, 1));
        },
        {}}},
      {"lost_share",
       {[](const Run& run, const std::string&) {
          return share(run.p.fits() ? static_cast<double>(run.p.lost_devices) / run.p.ranks() : 0);
        },
        {}}},
  };
  return known;
}

struct Name {
  std::string metric, part;
};
Name split(const std::string& text) {
  const size_t dot = text.find('.');
  return {text.substr(0, dot), dot == std::string::npos ? "" : text.substr(dot + 1)};
}

}  // namespace

Figure figure_of(const std::string& metric, const Prediction& prediction, const Workload& work) {
  const Name name = split(metric);
  return metrics().at(name.metric).tell({prediction, work}, name.part);
}

void check_metric(const std::string& metric, const std::string& where) {
  const Name name = split(metric);
  const auto found = metrics().find(name.metric);
  if (found == metrics().end()) throw InputError("{}: no metric '{}'", where, metric);
  const auto& parts = found->second.parts;
  if (parts.empty() ? !name.part.empty() : std::ranges::find(parts, name.part) == parts.end())
    throw InputError("{}: '{}' has no part '{}'", where, name.metric, name.part);
}

double unit_of(const std::string& unit, const std::string& where) {
  static const std::map<std::string, double> known = {
      {"", 1},     {"x", 1},     {"s", 1},        {"ms", 1e-3},        {"us", 1e-6}, {"%", 0.01},
      {"GB", 1e9}, {"mJ", 1e-3}, {"tokens/s", 1}, {"tokens/s/GPU", 1}, {"W", 1},     {"J", 1}};
  const auto found = known.find(unit);
  if (found == known.end()) throw InputError("{}: no unit '{}'", where, unit);
  return found->second;
}

}  // namespace tandem
