#include "tandem/balance/forecast.h"

#include <algorithm>

namespace tandem {

StepForecast forecast_step(const Plan& plan, const ModelConfig& model, const StepLoad& load,
                           const Forecast& forecast) {
  const PlanWork work = work_of(plan, model, load);
  StepForecast step;
  double busiest = 0;
  std::vector<double> busy(plan.ranks());
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    double attention = 0, experts = 0;
    for (int rank = 0; rank < plan.ranks(); ++rank) {
      const double a = forecast.attention_seconds(rank, work.attention[rank][layer]);
      const double e = forecast.expert_seconds(rank, work.experts[rank][layer]);
      attention = std::max(attention, a);
      experts = std::max(experts, e);
      busy[rank] += a + e;
      busiest = std::max(busiest, busy[rank]);
    }
    step.attention_seconds += attention;
    step.expert_seconds += experts;
  }
  const double chain = step.attention_seconds + step.expert_seconds;
  double apart = 0;
  for (int rank = 0; rank < plan.ranks(); ++rank)
    apart = std::max(apart, forecast.apart_seconds(rank, work.apart[rank]));
  step.seconds = std::max(chain / plan.micro_batches, busiest) + apart;
  return step;
}

}  // namespace tandem
