#include "tandem/balance/balancer.h"

#include <algorithm>

namespace tandem {
namespace {

constexpr size_t remembered_intervals = 5;
constexpr int rounds_of_slowness = 3;
constexpr double clearly_better = 0.8;  // the network's error beside the linear one's

// Medians: what else a machine does now and then is not the ranks' doing.
std::vector<std::vector<double>> step_seconds(const Observation::Seconds& seen) {
  std::vector<std::vector<double>> seconds;
  for (const auto& rank : seen) {
    auto& layers = seconds.emplace_back();
    for (const std::vector<double>& steps : rank) layers.push_back(median(steps));
  }
  return seconds;
}

// In layer `layer`, or outside of all: -1.
double seconds_in(const std::vector<double>& seconds, int64_t layer) {
  const auto at = static_cast<size_t>(layer + 1);
  return at < seconds.size() ? seconds[at] : 0;
}

using RankSamples = std::vector<std::vector<TimedWork>>;  // by rank

RankSamples samples_of(const std::vector<std::vector<LayerWork>>& works,
                       const std::vector<std::vector<double>>& seconds,
                       const std::vector<double>& slowness) {
  RankSamples samples(works.size());
  for (size_t rank = 0; rank < works.size(); ++rank)
    for (int64_t layer = 0; layer < std::ssize(works[rank]); ++layer)
      if (const double s = seconds_in(seconds[rank], layer); s > 0 && !works[rank][layer].empty())
        samples[rank].push_back({works[rank][layer], slowness[rank], s});
  return samples;
}

std::vector<TimedWork> of_all_ranks(const RankSamples& samples) {
  std::vector<TimedWork> all;
  for (const auto& some : samples) all.insert(all.end(), some.begin(), some.end());
  return all;
}

// How much longer each rank takes than a model of all says, beside the median rank; 0 where it has
// nothing to do.
std::vector<double> slowness_within(const RankSamples& samples) {
  LinearTimeModel model;
  model.fit(of_all_ranks(samples));
  std::vector<double> ratios(samples.size()), some;
  for (size_t rank = 0; rank < samples.size(); ++rank) {
    double measured = 0, predicted = 0;
    for (const TimedWork& sample : samples[rank]) {
      measured += sample.seconds;
      predicted += model.seconds(sample.work, 1);
    }
    if (predicted <= 0) continue;
    ratios[rank] = measured / predicted;
    some.push_back(ratios[rank]);
  }
  const double middle = median(some);
  for (double& ratio : ratios)
    if (ratio > 0) ratio /= middle;
  return ratios;
}

double now_seconds(Engine& engine) { return engine.world().controller().now_seconds(); }

}  // namespace

Balancer::Balancer(Engine& engine, const BalanceSettings& settings)
    : engine_(engine),
      settings_(settings),
      attention_(settings.seed),
      experts_(settings.seed + 1),
      slowness_(engine.plan().ranks(), 1),
      interval_start_seconds_(now_seconds(engine)) {
  if (settings_.every_steps < 1)
    throw InputError("balancing every {} steps: must be at least 1", settings_.every_steps);
  if (!(settings_.threshold > 0 && settings_.threshold < 1))
    throw InputError("threshold {} of balancing: must be above 0 and below 1", settings_.threshold);
  engine_.take_observation();
}

std::vector<TimedWork> Balancer::Samples::with(std::vector<TimedWork> newest) {
  intervals.push_back(std::move(newest));
  if (intervals.size() > remembered_intervals) intervals.pop_front();
  std::vector<TimedWork> all;
  for (const auto& interval : intervals) all.insert(all.end(), interval.begin(), interval.end());
  return all;
}

// Errors are of samples that the models have not seen.
void Balancer::Learner::learn(std::vector<TimedWork> newest) {
  if (newest.empty()) return;
  if (fitted) {
    linear_error = relative_error(linear, newest);
    network_error = relative_error(network, newest);
  }
  const std::vector<TimedWork> all = samples.with(std::move(newest));
  linear.fit(all);
  network.fit(all);
  if (!fitted) linear_error = relative_error(linear, all);
  fitted = true;
}

// What experts get in one interval is partly chance, which is not to be chased.
StepLoad Balancer::smoothed_load(const Observation& seen) {
  const auto steps = static_cast<double>(seen.steps);
  StepLoad load{.tokens = seen.tokens / steps,
                .context_tokens = seen.tokens > 0 ? seen.contexts / seen.tokens : 0};
  const bool first = expert_tokens_.empty();
  expert_tokens_.resize(seen.expert_tokens.size());
  for (size_t i = 0; i < expert_tokens_.size(); ++i) {
    const double now = static_cast<double>(seen.expert_tokens[i]) / steps;
    expert_tokens_[i] = first ? now : (expert_tokens_[i] + now) / 2;
  }
  load.expert_tokens = expert_tokens_;
  return load;
}

// How slow a device is follows from a model of all ranks' times, and that from how slow they are:
// found in turns. Ranks whose lane is the same are compared; the median one's slowness is 1.
void Balancer::learn(const StepSeconds& attention, const StepSeconds& experts,
                     const PlanWork& work) {
  for (int round = 0; round < rounds_of_slowness; ++round) {
    const auto one = slowness_within(samples_of(work.attention, attention, slowness_));
    const auto other = slowness_within(samples_of(work.experts, experts, slowness_));
    for (size_t rank = 0; rank < slowness_.size(); ++rank) {
      std::vector<double> found;
      for (const double slowness : {one[rank], other[rank]})
        if (slowness > 0) found.push_back(slowness);
      if (!found.empty()) slowness_[rank] = middle_mean(found);
    }
  }
  attention_.learn(of_all_ranks(samples_of(work.attention, attention, slowness_)));
  experts_.learn(of_all_ranks(samples_of(work.experts, experts, slowness_)));
  std::vector<TimedWork> apart;
  for (size_t rank = 0; rank < slowness_.size(); ++rank) {
    const double s = seconds_in(attention[rank], -1) + seconds_in(experts[rank], -1);
    if (s > 0) apart.push_back({work.apart[rank], slowness_[rank], s});
  }
  if (!apart.empty()) apart_.fit(apart_samples_.with(std::move(apart)));
}

std::optional<BalanceRecord> Balancer::after_step() {
  ++steps_;
  if (++steps_of_interval_ < settings_.every_steps) return std::nullopt;
  const Observation seen = engine_.take_observation();
  BalanceRecord record{.step = steps_,
                       .step_seconds = (now_seconds(engine_) - interval_start_seconds_) /
                                       static_cast<double>(steps_of_interval_)};
  steps_of_interval_ = 0;
  recent_.begin_interval();
  if (seen.steps > 0 && !seen.attention_seconds.empty()) {
    const StepLoad load = smoothed_load(seen);
    const StepSeconds attention = step_seconds(seen.attention_seconds);
    const StepSeconds experts = step_seconds(seen.expert_seconds);
    learn(attention, experts, work_of(engine_.plan(), engine_.model(), load));
    record.linear_error = std::max(attention_.linear_error, experts_.linear_error);
    record.network_error = std::max(attention_.network_error, experts_.network_error);
    std::vector<double> busy(slowness_.size());
    for (size_t rank = 0; rank < busy.size(); ++rank)
      for (const StepSeconds* lane : {&attention, &experts})
        for (const double seconds : (*lane)[rank]) busy[rank] += seconds;
    const double mean = spread(busy).mean;
    if (mean > 0) record.imbalance = std::ranges::max(busy) / mean - 1;
    if (attention_.fitted && experts_.fitted) move_if_it_pays(load, record);
  }
  interval_start_seconds_ = now_seconds(engine_);
  return record;
}

void Balancer::move_if_it_pays(const StepLoad& load, BalanceRecord& record) {
  // The linear model finds a plan, since it goes on as it should where nothing was measured. The
  // network has a say where it has been right more often.
  const Forecast forecast{&attention_.linear, &experts_.linear, &apart_, slowness_};
  const Plan& today = engine_.plan();
  const ModelConfig& model = engine_.model();
  const StepForecast now = forecast_step(today, model, load, forecast);
  record.attention_seconds = now.attention_seconds;
  record.expert_seconds = now.expert_seconds;
  const Plan next = Rebalance(model, load, forecast, recent_, settings_.bounds).improve(today);
  const auto gain_by = [&](const Forecast& by) {
    return 1 - forecast_step(next, model, load, by).seconds /
                   forecast_step(today, model, load, by).seconds;
  };
  record.gain = gain_by(forecast);
  if (0 < record.network_error && record.network_error < clearly_better * record.linear_error)
    record.gain = std::min(record.gain,
                           gain_by({&attention_.network, &experts_.network, &apart_, slowness_}));
  const double saved_seconds = record.gain * now.seconds;
  // A gain has to stand out from what predictions are off by.
  const double least_gain = std::max(settings_.threshold, record.linear_error / 2);
  if (next == today || record.gain < least_gain) {
    record.what = "nothing gains enough";
    return;
  }
  record.what = describe_move(today, next, model);
  record.move_bytes = engine_.move_bytes(next);
  if (record.move_bytes / bytes_per_second_ > saved_seconds * settings_.pays_within_steps) {
    record.what += " would not pay";
    return;
  }
  const double start = now_seconds(engine_);
  recent_.note(today, next, model.layers);
  engine_.move_to(next);
  record.move_seconds = now_seconds(engine_) - start;
  record.moved = true;
  if (record.move_seconds > 0 && record.move_bytes > 1e6)
    bytes_per_second_ = record.move_bytes / record.move_seconds;
}

std::string describe_move(const Plan& before, const Plan& after, const ModelConfig& model) {
  int64_t experts = 0, heads = 0, ranks = 0;
  const auto held = [&](const Plan& plan, int rank) {
    std::vector<std::pair<int64_t, int>> all;  // layer, expert
    for (const Region& region : holdings(plan, model, rank))
      if (region.id.kind == ParameterKind::expert_down)
        all.emplace_back(region.id.layer, region.id.expert);
    return all;
  };
  for (int rank = 0; rank < before.ranks(); ++rank) {
    const auto had = held(before, rank), has = held(after, rank);
    for (const auto& item : has) experts += !std::binary_search(had.begin(), had.end(), item);
    const Role was = role_of(before, rank), is = role_of(after, rank);
    ranks += was.attention != is.attention;
    if (was.attention && is.attention)
      heads += std::max(0, after.stages[is.stage].attention.heads[is.place.group] -
                               before.stages[was.stage].attention.heads[was.place.group]);
  }
  const auto count = [](int64_t n, const char* thing) {
    return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
  };
  return fmt::format("{}, {}, {} of another role", count(heads, "head"), count(experts, "expert"),
                     count(ranks, "rank"));
}

}  // namespace tandem
