#include "tandem/planner/simulation.h"

#include <algorithm>

#include "tandem/cost/operation_cost.h"
#include "tandem/runtime/optimizer.h"

namespace tandem {
namespace {

class Simulation {
 public:
  Simulation(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
             const Workload& work, const SimulationSettings& settings)
      : cluster_(cluster),
        work_(work),
        settings_(settings),
        store_(ParameterStore::shapes(model, settings.dtype)),
        engine_(plan, store_, [&](const Plan& p, ParameterStore& store) {
          const SimSettings world{
              .routing = settings.recorded ? settings.recorded
                                           : make_routing(settings.routing, model, settings.seed),
              .devices = settings.devices,
              .trainable = work.kind == WorkKind::train};
          auto made = std::make_unique<SimWorld>(p, store, cluster, world);
          world_ = made.get();
          return made;
        }) {
    check();
  }

  Prediction run() {
    Prediction result;
    WorkloadRunner runner(engine_, work_, settings_.steps, one_token);
    const double begin = now();
    for (int i = 0; i < settings_.steps; ++i) {
      engine_.clear_spans();
      runner.step(i);
    }
    const TimeWindow window{now() - (now() - begin) / settings_.steps, now()};
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
    const int64_t needed =
        work_.context_tokens + (work_.kind == WorkKind::decode ? settings_.steps : 0);
    if (needed > most)
      throw InputError("{} tokens of context: the model has {} positions", needed, most);
  }

  double now() { return engine_.world().controller().now_seconds(); }

  // What a rank did in the last step: its floor and its energy.
  void add_rank(size_t rank, const TimeWindow& window, Prediction& result) const {
    const RankSpans& own = result.spans[rank];
    const DeviceType& type = world_->type_of(static_cast<int>(rank));
    Cost cost;
    double busy_seconds = 0;
    for (const Span& span : own.spans) {
      if (span.lane != Lane::attention && span.lane != Lane::expert) continue;
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
    int64_t most = -1;
    for (int rank = 0; rank < engine_.plan().ranks(); ++rank) {
      const int64_t weights =
          elements_of(holdings(engine_.plan(), engine_.model(), rank)) * size_of(settings_.dtype);
      const Rank& one = engine_.world().rank(rank);
      const int64_t cache = one.cache ? one.cache->bytes() : 0;
      const int64_t optimizer = one.optimizer ? one.optimizer->bytes() : 0;
      int64_t gradients = 0;
      for (const auto& [region, tensor] : one.gradient_regions) gradients += tensor.bytes();
      const int64_t peak = engine_.world().device(rank).peak_allocated_bytes();
      const int64_t activations = std::max<int64_t>(0, peak - cache - optimizer - gradients);
      if (weights + peak <= most) continue;
      most = weights + peak;
      result.memory_limit_bytes = world_->type_of(rank).memory_bytes;
      result.memory_bytes = {{"parameters", weights},
                             {"kv_cache", cache},
                             {"optimizer", optimizer},
                             {"gradients", gradients},
                             {"activations", activations}};
    }
  }

  const Cluster& cluster_;
  const Workload& work_;
  const SimulationSettings& settings_;
  ParameterStore store_;
  SimWorld* world_ = nullptr;
  Engine engine_;
};

}  // namespace

Prediction simulate(const ModelConfig& model, const Plan& plan, const Cluster& cluster,
                    const Workload& work, const SimulationSettings& settings) {
  return Simulation(model, plan, cluster, work, settings).run();
}

}  // namespace tandem
