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

struct Cases {
  std::vector<Measurement> inference, training;
};

Cases cases(ParameterStore& store) {
  Cases all;
  for (const char* text :
       {"single", "tp:ranks=2", "pp:stages=2", "ep:ranks=2", "ma:attention=1,experts=1",
        "ma:attention=1,experts=1,micro_batches=2"}) {
    const Plan plan = make_plan(text, store.config());
    for (const int64_t sequences : {8, 32})
      all.inference.emplace_back(
          store, plan,
          Workload{.kind = WorkKind::decode, .sequences = sequences, .context_tokens = 128}, 4);
    all.inference.emplace_back(
        store, plan, Workload{.kind = WorkKind::prefill, .sequences = 2, .context_tokens = 128}, 2);
    all.training.emplace_back(
        store, plan, Workload{.kind = WorkKind::train, .sequences = 2, .context_tokens = 128}, 1);
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
  Cases all = cases(store);
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < inferences_a_training; ++i) {
      calibration.infer();
      for (Measurement& m : all.inference) m.run();
    }
    if (!trains) continue;
    calibration.train();
    for (Measurement& m : all.training) m.run();
  }
  fmt::print(stderr, "\n");
  if (trains) std::ranges::move(all.training, std::back_inserter(all.inference));
  const Cluster cluster = calibration.cluster();
  auto json = nlohmann::json::array();
  Table table(
      {{"plan", Align::left}, {"work", Align::left}, {"measured"}, {"predicted"}, {"error"}});
  std::vector<double> errors;
  for (const Measurement& m : all.inference) {
    const double measured = m.step_seconds();
    const SimulationSettings settings{.dtype = store.dtype(),
                                      .steps = 2,
                                      .recorded = recorded_routing(m.routing(), store.config(), 0)};
    const double predicted =
        simulate(store.config(), m.plan(), cluster, m.work(), settings).step_seconds;
    const double error = predicted / measured - 1;
    errors.push_back(std::abs(error));
    const std::string work = case_text(m.work());
    table.add_row({m.plan().name, work, format_seconds(measured), format_seconds(predicted),
                   fmt::format("{:+.1f} %", 100 * error)});
    json.push_back({{"plan", m.plan().name},
                    {"work", work},
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
