#include "tandem/planner/extrapolate.h"

#include <algorithm>
#include <cmath>

namespace tandem {
namespace {

// Values that grow with depth, and shares of the step's time, which are values once multiplied with
// it.
class Line {
 public:
  Line(const Prediction& shorter, const Prediction& longer, double more)
      : shorter_(shorter), longer_(longer), more_(more) {}

  template <class Number>
  Number value(Number from, Number to) const {
    const double grown = static_cast<double>(to) + more_ * static_cast<double>(to - from);
    if constexpr (std::is_integral_v<Number>) return std::llround(grown);
    return static_cast<Number>(grown);
  }
  double share(double from, double to) const {
    const double seconds = value(shorter_.step_seconds, longer_.step_seconds);
    return value(from * shorter_.step_seconds, to * longer_.step_seconds) / seconds;
  }

  void group(const GroupUse& from, GroupUse& to) const {
    to.utilisation = share(from.utilisation, to.utilisation);
    to.own_share = share(from.own_share, to.own_share);
    to.flops_per_second = share(from.flops_per_second, to.flops_per_second);
    to.bytes_per_second = share(from.bytes_per_second, to.bytes_per_second);
  }

  void metrics(const Metrics& from, Metrics& to) const {
    group(from.attention, to.attention);
    group(from.expert, to.expert);
    to.utilisation = share(from.utilisation, to.utilisation);
    to.waiting.mean = share(from.waiting.mean, to.waiting.mean);
    to.communication_share = share(from.communication_share, to.communication_share);
    to.under_way_share = share(from.under_way_share, to.under_way_share);
    to.hidden_share = share(from.hidden_share, to.hidden_share);
    for (CommunicationUse& use : to.communication) {
      const auto same = std::ranges::find(from.communication, use.kind, &CommunicationUse::kind);
      const CommunicationUse none, &other = same == from.communication.end() ? none : *same;
      use.share = share(other.share, use.share);
      use.waiting_share = share(other.waiting_share, use.waiting_share);
      use.messages = value(other.messages, use.messages);
      use.bytes = value(other.bytes, use.bytes);
    }
  }

 private:
  const Prediction &shorter_, &longer_;
  double more_;
};

}  // namespace

Plan shortened(const Plan& plan, int stage_layers) {
  Plan result = plan;
  int64_t next = 0;
  for (Stage& stage : result.stages) {
    stage.layers = {next, next + stage_layers};
    next += stage_layers;
    if (stage.experts.size() > 1) stage.experts.resize(static_cast<size_t>(stage_layers));
  }
  return result;
}

ModelConfig shortened(const ModelConfig& model, const Plan& plan, int stage_layers) {
  ModelConfig result = model;
  result.layers = stage_layers * std::ssize(plan.stages);
  result.dense_layers = 0;  // the few there are count as layers with experts: a line has one slope
  return result;
}

Prediction extrapolate(const Prediction& shorter, const Prediction& longer, double more) {
  const Line line(shorter, longer, more);
  Prediction result = longer;
  result.step_seconds = line.value(shorter.step_seconds, longer.step_seconds);
  result.floor_seconds = line.value(shorter.floor_seconds, longer.floor_seconds);
  result.energy.attention_joules =
      line.value(shorter.energy.attention_joules, longer.energy.attention_joules);
  result.energy.expert_joules =
      line.value(shorter.energy.expert_joules, longer.energy.expert_joules);
  for (size_t rank = 0; rank < result.memory.size(); ++rank)
    for (const MemoryPart& part : memory_parts)
      result.memory[rank].*part.bytes =
          line.value(shorter.memory[rank].*part.bytes, result.memory[rank].*part.bytes);
  result.bandwidth_share = line.share(shorter.bandwidth_share, longer.bandwidth_share);
  result.flops_share = line.share(shorter.flops_share, longer.flops_share);
  result.events = line.value(shorter.events, longer.events);
  result.messages = line.value(shorter.messages, longer.messages);
  result.message_bytes = line.value(shorter.message_bytes, longer.message_bytes);
  line.metrics(shorter.metrics, result.metrics);
  return result;
}

}  // namespace tandem
