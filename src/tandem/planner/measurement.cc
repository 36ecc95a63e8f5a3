#include "tandem/planner/measurement.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "tandem/comm/local/local_transport.h"
#include "tandem/cost/operation_cost.h"

namespace tandem {
namespace {

struct Timing {
  Cost cost;
  double seconds = 0;  // mean
  double weight = 0;   // all its spans together
};

std::vector<double> logarithmic(double first, double last, int count) {
  std::vector<double> values;
  for (int i = 0; i < count; ++i)
    values.push_back(first * std::pow(last / first, static_cast<double>(i) / (count - 1)));
  return values;
}

double misfit(const std::vector<Timing>& samples, const OperationSpeed& speed,
              double crowding = 0) {
  double sum = 0;
  for (const Timing& s : samples)
    sum += s.weight * std::abs(std::log(roofline_seconds(speed, s.cost, crowding) / s.seconds));
  return sum;
}

// A coarse grid over everything, then finer ones around the best. Where several speeds fit alike
// (an operation whose FLOPs grow with its bytes), the simplest: a roofline, bound by memory.
OperationSpeed fit(const std::vector<Timing>& samples) {
  OperationSpeed best;
  double least = std::numeric_limits<double>::infinity();
  constexpr double hidden[] = {1, 0.75, 0.5, 0.25, 0}, better = 1 - 1e-3;
  std::vector<double> flops = logarithmic(1e13, 1e8, 26), bytes = logarithmic(1e8, 1e12, 21),
                      overheads = logarithmic(1e-8, 1e-3, 16);
  overheads.push_back(0);
  for (int round = 0; round < 3; ++round) {
    for (const double f : flops)
      for (const double b : bytes)
        for (const double o : overheads)
          for (const double h : hidden) {
            const OperationSpeed speed{f, b, o, h};
            const double m = misfit(samples, speed);
            if (m < better * least) least = m, best = speed;
          }
    const double width = round == 0 ? 1.6 : 1.12;
    flops = logarithmic(best.flops_per_second * width, best.flops_per_second / width, 13);
    bytes = logarithmic(best.bytes_per_second / width, best.bytes_per_second * width, 13);
    overheads = {best.overhead_seconds};
    if (best.overhead_seconds > 0)
      overheads = logarithmic(best.overhead_seconds / width, best.overhead_seconds * width, 9);
  }
  return best;
}

void scale_to_sum(const std::vector<Timing>& samples, OperationSpeed& speed) {
  double measured = 0, predicted = 0;
  for (const Timing& s : samples) {
    measured += s.weight;
    predicted += s.weight * roofline_seconds(speed, s.cost) / s.seconds;
  }
  speed.flops_per_second *= predicted / measured;
  speed.bytes_per_second *= predicted / measured;
  speed.overhead_seconds *= measured / predicted;
}

double fit_crowded(const std::vector<Timing>& samples, OperationSpeed speed) {
  constexpr double most = 8;
  constexpr int steps = 200;
  return std::ranges::min(logarithmic(1, most, steps), {}, [&](double crowded) {
    speed.crowded = crowded;
    return misfit(samples, speed, 1);
  });
}

// The sizes of each operation that took most of its time.
std::map<std::string, std::vector<Timing>, std::less<>> timings(
    const std::vector<RankSpans>& ranks) {
  using Size = std::pair<double, double>;
  std::map<std::string, std::map<Size, std::vector<double>>, std::less<>> measured;
  for (const RankSpans& rank : ranks)
    for (const Span& span : rank.spans)
      if (computes(span))
        measured[span.name][{span.cost.flops, span.cost.bytes}].push_back(
            std::max(1e-9, span.end_seconds - span.start_seconds));
  std::map<std::string, std::vector<Timing>, std::less<>> all;
  for (auto& [name, sizes] : measured) {
    std::vector<Timing>& samples = all[name];
    for (auto& [size, seconds] : sizes) {
      const double mean = middle_mean(seconds);
      samples.push_back(
          {{size.first, size.second}, mean, mean * static_cast<double>(seconds.size())});
    }
    constexpr size_t most = 64;
    std::ranges::sort(samples, std::greater(), &Timing::weight);
    if (samples.size() > most) samples.resize(most);
  }
  return all;
}

Task<> play_ping_pong(Endpoint& own, int peer, bool begins, int rounds) {
  const Tag tag{};
  if (begins) own.send(peer, tag, {});
  for (int i = 0; i < rounds; ++i) {
    (void)co_await own.receive(peer, tag);
    if (!begins || i + 1 < rounds) own.send(peer, tag, {});
  }
}

}  // namespace

struct Measurement::Running {
  Engine engine;
  WorkloadRunner runner;

  Running(const Plan& plan, ParameterStore& store, const Workload& work, int steps)
      : engine(plan, store,
               WorldSettings{.threads = plan.ranks(),
                             .keep_all_spans = true,
                             .rank = {.trainable = work.kind == WorkKind::train}}),
        runner(engine, work, steps + 1, engine.model().vocab_size) {
    if (work.kind == WorkKind::decode) runner.fill_context();
    engine.record_routing();
  }
};

void Measurement::run() {
  if (!running_) running_ = std::make_shared<Running>(plan_, store_, work_, steps_);
  Engine& engine = running_->engine;
  running_->runner.step(0);
  engine.clear_spans();
  const auto now = [&] { return engine.world().controller().now_seconds(); };
  for (int i = 1; i <= steps_; ++i) {
    const double begin = now();
    running_->runner.step(i);
    seconds_.push_back(now() - begin);
  }
  for (RankSpans& rank : engine.spans()) spans_.push_back(std::move(rank));
  if (routing_.empty()) routing_ = engine.routing();
  // Gradients and optimizer state of several would not fit beside one another.
  if (work_.kind == WorkKind::train) running_.reset();
}

std::map<std::string, OperationSpeed, std::less<>> fit_operations(
    const std::vector<RankSpans>& alone, const std::vector<RankSpans>& crowded) {
  std::map<std::string, OperationSpeed, std::less<>> speeds;
  for (const auto& [name, samples] : timings(alone)) {
    scale_to_sum(samples, speeds[name] = fit(samples));
  }
  for (const auto& [name, samples] : timings(crowded))
    if (const auto found = speeds.find(name); found != speeds.end())
      found->second.crowded = fit_crowded(samples, found->second);
  return speeds;
}

double message_latency_seconds() {
  constexpr int rounds = 2000;
  LocalHub hub(2);
  const auto play = [&](int self, bool begins) {
    const std::unique_ptr<Transport> transport = hub.connect(self, 30e-6);
    Recorder recorder(self);
    Endpoint endpoint(*transport, recorder, 60);
    Task<> task = play_ping_pong(endpoint, 1 - self, begins, rounds);
    const double start = transport->now_seconds();
    endpoint.run({&task, 1});
    return (transport->now_seconds() - start) / (2 * rounds);
  };
  std::thread other([&] { play(1, false); });
  const double seconds = play(0, true);
  other.join();
  return seconds;
}

}  // namespace tandem
