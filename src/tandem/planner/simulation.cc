#include "tandem/planner/simulation.h"

#include <algorithm>

#include "tandem/cost/operation_cost.h"
#include "tandem/planner/crowding.h"
#include "tandem/planner/extrapolate.h"
#include "tandem/runtime/optimizer.h"

namespace tandem {
namespace {

class Simulation {
 public:
  Simulation(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
             const Workload& work, const SimulationSettings& settings,
             std::vector<Crowding> crowding = {})
      : cluster_(cluster),
        work_(work),
        settings_(settings),
        crowding_(std::move(crowding)),
        store_(ParameterStore::shapes(model, settings.dtype)),
        engine_(plan, store_, [&](const Plan& p, ParameterStore& store) {
          const SimSettings world{
              .routing = settings.recorded ? settings.recorded
                                           : make_routing(settings.routing, model, settings.seed),
              .devices = settings.devices,
              .trainable = work.kind == WorkKind::train,
              .faults = settings.faults,
              .crowding = crowding_};
          auto made = std::make_unique<SimWorld>(p, store, cluster, world);
          world_ = made.get();
          return made;
        }) {
    check();
  }

  // That of one step in which nobody is slowed by it: a first guess, and the one that is used.
  std::vector<Crowding> crowding() {
    WorkloadRunner runner(engine_, work_, 1, one_token);
    step(runner, 0);
    return crowding_of(engine_.spans(), cluster_, world_->devices());
  }

  Prediction run() {
    Prediction result;
    WorkloadRunner runner(engine_, work_, settings_.steps, one_token);
    const double begin = now();
    for (int i = 0; i < settings_.steps; ++i) {
      engine_.clear_spans();
      const double start = now();
      step(runner, i);
      result.steps_seconds.push_back(now() - start);
      if (settings_.between_steps && i + 1 < settings_.steps) settings_.between_steps(engine_);
    }
    const TimeWindow window{now() - result.steps_seconds.back(), now()};
    result.step_seconds = (now() - begin) / settings_.steps;
    result.spans = engine_.spans();
    result.metrics = compute_metrics(result.spans, window);
    for (size_t rank = 0; rank < result.spans.size(); ++rank) add_rank(rank, window, result);
    add_peaks(window.seconds(), result);
    result.layers = static_cast<size_t>(engine_.model().layers);
    result.expert_tokens = engine_.expert_tokens();
    for (const CommunicationUse& use : result.metrics.communication)
      result.messages += use.messages, result.message_bytes += static_cast<int64_t>(use.bytes);
    result.events = world_->hub().events();
    result.lost_devices = world_->lost_devices();
    for (const Fault& fault : settings_.faults)
      result.failures += fault.fails() && fault.of_device() ? 1 : 0;
    add_memory(result);
    return result;
  }

 private:
  static constexpr int64_t one_token = 1;  // tokens have no meaning here: all are the same

  void check() const {
    const auto positive = [](const char* name, int64_t value) {
      if (value < 1) throw InputError("{} {}: must be at least 1", name, value);
    };
    positive("batch", work_.sequences);
    positive("context", work_.context_tokens);
    positive("steps", settings_.steps);
    const int64_t most = engine_.model().max_positions;
    if (work_.kind == WorkKind::mixed) {
      positive("prompts", work_.prompts);
      positive("chunk", work_.chunk_tokens);
    }
    if (work_.kind == WorkKind::train && !work_.context_shape.empty())
      throw InputError("sequences of a training step are equally long");
    const int64_t needed = work_.longest_context() + (work_.decodes() ? settings_.steps : 0);
    if (needed > most)
      throw InputError("{} tokens of context: the model has {} positions", needed, most);
  }

  void step(WorkloadRunner& runner, int number) const {
    try {
      while (!finishes(runner, number)) continue;
    } catch (const WorldError& error) {
      std::string failed;
      for (const Fault& fault : settings_.faults)
        if (fault.fails()) failed += (failed.empty() ? "" : ", ") + fault.text;
      if (failed.empty()) throw;
      throw WorldError("step {} stops under {}: {}", number, failed, error.what());
    }
  }

  // A step of training is done again once all ranks have read the last checkpoint.
  static bool finishes(WorkloadRunner& runner, int number) {
    try {
      runner.step(number);
    } catch (const StateLost&) {
      return false;
    }
    return true;
  }

  double now() { return engine_.world().controller().now_seconds(); }

  // What a rank did in the last step: its floor and its energy.
  void add_rank(size_t rank, const TimeWindow& window, Prediction& result) const {
    const RankSpans& own = result.spans[rank];
    const DeviceType& type = world_->type_of(static_cast<int>(rank));
    Cost cost;
    double busy_seconds = 0;
    for (const Span& span : own.spans) {
      if (!computes(span)) continue;
      cost += span.cost;
      busy_seconds += span.end_seconds - span.start_seconds;
    }
    result.floor_seconds =
        std::max(result.floor_seconds, floor_seconds(type, dtype_name(settings_.dtype), cost));
    const double joules =
        type.idle_watts * window.seconds() + (type.peak_watts - type.idle_watts) * busy_seconds;
    (own.attention ? result.energy.attention_joules : result.energy.expert_joules) += joules;
  }

  // What all devices could have done in that time.
  void add_peaks(double seconds, Prediction& result) const {
    Cost peak;
    for (int rank = 0; rank < engine_.plan().ranks(); ++rank) {
      const DeviceType& type = world_->type_of(rank);
      peak += {peak_flops_per_second(type, dtype_name(settings_.dtype)) * seconds,
               type.memory_bytes_per_second * seconds};
      result.idle_watts += type.idle_watts;
      result.price_per_hour += type.price_per_hour;
    }
    result.flops_share = result.metrics.compute.flops / peak.flops;
    result.bandwidth_share = result.metrics.compute.bytes / peak.bytes;
  }

  void add_memory(Prediction& result) {
    for (int number = 0; number < engine_.plan().ranks(); ++number) {
      const Rank& rank = engine_.world().rank(number);
      Memory& memory = result.memory.emplace_back();
      memory.parameters =
          weight_bytes(holdings(engine_.plan(), engine_.model(), number), settings_.dtype);
      memory.kv_cache = rank.cache ? rank.cache->bytes() : 0;
      memory.optimizer = rank.optimizer ? rank.optimizer->bytes() : 0;
      for (const auto& [region, tensor] : rank.gradient_regions) memory.gradients += tensor.bytes();
      memory.activations =
          std::max<int64_t>(0, engine_.world().device(number).peak_allocated_bytes() -
                                   memory.kv_cache - memory.optimizer - memory.gradients);
      memory.limit_bytes = world_->type_of(number).memory_bytes;
    }
    const std::vector<Memory> own = result.memory;
    const std::vector<int>& devices = world_->devices();
    for (size_t rank = 0; rank < own.size(); ++rank)
      for (size_t other = 0; other < own.size(); ++other)
        if (other != rank && devices[other] == devices[rank])
          for (const MemoryPart& part : memory_parts)
            result.memory[rank].*part.bytes += own[other].*part.bytes;
  }

  const Cluster& cluster_;
  const Workload& work_;
  const SimulationSettings& settings_;
  std::vector<Crowding> crowding_;
  ParameterStore store_;
  SimWorld* world_ = nullptr;
  Engine engine_;
};

// Micro-batches that take turns can make every second layer a longer one.
constexpr int layers_apart = 2;

}  // namespace

Prediction simulate(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
                    const Workload& work, const SimulationSettings& settings) {
  const auto run = [&](const ModelConfig& m, const Plan& p) {
    std::vector<Crowding> crowding;
    if (cluster.crowds()) crowding = Simulation(m, p, cluster, work, settings).crowding();
    return Simulation(m, p, cluster, work, settings, std::move(crowding)).run();
  };
  const double layers = static_cast<double>(model.layers) / static_cast<double>(plan.stages.size());
  const int most = settings.stage_layers;
  if (most == 0 || layers <= most) return run(model, plan);
  TANDEM_CHECK(most > layers_apart, "{} layers say nothing about more", most);
  const int fewer = most - layers_apart;
  const Prediction shorter = run(shortened(model, plan, fewer), shortened(plan, fewer));
  const Prediction longer = run(shortened(model, plan, most), shortened(plan, most));
  return extrapolate(shorter, longer, (layers - most) / layers_apart);
}

}  // namespace tandem
