#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tandem/base/clock.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/work_options.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct SimulateOptions {
  WorkOptions work;
  std::string plan = "single";
  SimulationSettings settings;
};

nlohmann::json prediction_json(const Prediction& p, const Workload& work, double wall_seconds) {
  auto communication = nlohmann::json::object();
  for (const CommunicationUse& use : p.metrics.communication)
    if (use.kind != MessageKind::control)
      communication[std::string(message_kind_name(use.kind))] = use.share;
  return {{step_key(work), p.step_seconds},
          {"tokens_per_second", p.tokens_per_second(work)},
          {"utilization_attention", p.metrics.attention.utilisation},
          {"utilization_experts", p.metrics.expert.utilisation},
          {"communication_share", communication},
          {"memory_bytes", p.memory_bytes},
          {"energy_joules_per_token", p.energy.joules() / static_cast<double>(work.tokens())},
          {"messages", p.messages},
          {"message_bytes", p.message_bytes},
          {"events", p.events},
          {"wall_seconds", wall_seconds},
          {"floor_seconds", p.floor_seconds}};
}

void print(const Prediction& p, const Workload& work) {
  Table table({{"figure", Align::left}, {"value"}});
  table.add_row({work.kind == WorkKind::decode ? "time per output token" : "step",
                 format_seconds(p.step_seconds)});
  table.add_row({"no step can be faster than", format_seconds(p.floor_seconds)});
  table.add_row({"tokens/s", format_number(p.tokens_per_second(work))});
  table.add_row({"attention ranks busy", format_share(p.metrics.attention.utilisation)});
  table.add_row({"expert ranks busy", format_share(p.metrics.expert.utilisation)});
  for (const CommunicationUse& use : p.metrics.communication)
    if (use.kind != MessageKind::control)
      table.add_row({fmt::format("{} messages under way", message_kind_name(use.kind)),
                     format_share(use.share)});
  for (const auto& [component, bytes] : p.memory_bytes)
    table.add_row({component + ", fullest rank", format_bytes(static_cast<double>(bytes))});
  table.add_row({"energy a token",
                 fmt::format("{:.3g} J", p.energy.joules() / static_cast<double>(work.tokens()))});
  fmt::print("{}", table.text());
}

void run(SimulateOptions& o) {
  const WorkOptions::Read read = o.work.read();
  o.settings.dtype = read.dtype;
  o.settings.seed = o.work.seed;
  const Plan plan = make_plan(o.plan, read.model);
  const double start = wall_seconds();
  const Prediction prediction = simulate(read.model, plan, read.cluster, read.work, o.settings);
  print(prediction, read.work);
  write_json(o.work.json_file, prediction_json(prediction, read.work, wall_seconds() - start));
}

}  // namespace

void add_simulate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("simulate", "Run a plan on a described cluster");
  const auto o = std::make_shared<SimulateOptions>();
  o->work.add(*command);
  command->add_option("--plan", o->plan, "Plan file or shorthand")->capture_default_str();
  command->add_option("--steps", o->settings.steps, "Steps to average")->capture_default_str();
  command
      ->add_option("--routing", o->settings.routing,
                   "uniform | zipf:A | a file of `generate --record-routing`")
      ->capture_default_str();
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
