// Predicted against measured: the same plans on this machine and in a simulation of it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tandem/cli/bench_prediction.h"
#include "tandem/plan/shorthand.h"
#include "tandem/planner/measurement.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct Case {
  const char* plan;
  Workload work;
  int steps;  // a round
  Measurement measured = {};
};

std::vector<Case> cases(bool trains) {
  std::vector<Case> all;
  for (const char* plan :
       {"single", "tp:ranks=2", "pp:stages=2", "ep:ranks=2", "ma:attention=1,experts=1",
        "ma:attention=1,experts=1,micro_batches=2"}) {
    for (const int64_t sequences : {8, 32})
      all.push_back(
          {plan, {.kind = WorkKind::decode, .sequences = sequences, .context_tokens = 128}, 4});
    all.push_back({plan, {.kind = WorkKind::prefill, .sequences = 2, .context_tokens = 128}, 2});
    if (trains)
      all.push_back({plan, {.kind = WorkKind::train, .sequences = 2, .context_tokens = 128}, 1});
  }
  return all;
}

std::string case_text(const Workload& work) {
  const char* kind = work.kind == WorkKind::decode    ? "decode"
                     : work.kind == WorkKind::prefill ? "prefill"
                                                      : "train";
  return fmt::format("{}, {} x {}", kind, work.sequences, work.context_tokens);
}

}  // namespace

nlohmann::json bench_prediction(ParameterStore& store, LocalCalibration& calibration, bool trains) {
  constexpr int rounds = 5;
  std::vector<Case> all = cases(trains);
  for (int round = 0; round < rounds; ++round) {
    calibration.round();
    for (Case& c : all)
      c.measured.add(measure(store, make_plan(c.plan, store.config()), c.work, 1, c.steps));
  }
  const Cluster cluster = calibration.cluster(2);
  auto json = nlohmann::json::array();
  Table table(
      {{"plan", Align::left}, {"work", Align::left}, {"measured"}, {"predicted"}, {"error"}});
  std::vector<double> errors;
  for (const Case& c : all) {
    const Plan plan = make_plan(c.plan, store.config());
    const double measured = c.measured.step_seconds();
    SimulationSettings settings{.dtype = store.dtype(), .steps = 2};
    if (!c.measured.routing.empty())
      settings.recorded = recorded_routing(c.measured.routing, store.config(), 0);
    const double predicted = simulate(store.config(), plan, cluster, c.work, settings).step_seconds;
    const double error = predicted / measured - 1;
    errors.push_back(std::abs(error));
    table.add_row({c.plan, case_text(c.work), format_seconds(measured), format_seconds(predicted),
                   fmt::format("{:+.1f} %", 100 * error)});
    json.push_back({{"plan", c.plan},
                    {"work", case_text(c.work)},
                    {"measured_seconds", measured},
                    {"predicted_seconds", predicted},
                    {"error", error}});
  }
  std::ranges::sort(errors);
  fmt::print("{}median error {:.1f} %, worst {:.1f} %, one thread a rank\n\n", table.text(),
             100 * errors[errors.size() / 2], 100 * errors.back());
  return json;
}

}  // namespace tandem::cli
