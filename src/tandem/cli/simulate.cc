#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tandem/base/clock.h"
#include "tandem/cli/balance_options.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/work_options.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"
#include "tandem/trace/perfetto.h"

namespace tandem::cli {
namespace {

struct SimulateOptions {
  WorkOptions work;
  std::string plan = "single";
  std::string trace_file;
  std::vector<std::string> faults;
  SimulationSettings settings;
  BalanceOptions balance;
};

nlohmann::json memory_json(const Memory& m) {
  nlohmann::json json;
  for (const MemoryPart& part : memory_parts) json[part.name] = m.*part.bytes;
  return json;
}

nlohmann::json prediction_json(const Prediction& p, const WorkOptions::Read& read,
                               double wall_seconds) {
  const Workload& work = read.work;
  auto communication = nlohmann::json::object();
  for (const CommunicationUse& use : p.metrics.communication)
    if (use.kind != MessageKind::control)
      communication[std::string(message_kind_name(use.kind))] = use.share;
  nlohmann::json json{{"workload", work_json(work, p.step_seconds)},
                      {step_key(work), p.step_seconds},
                      {"steps_seconds", p.steps_seconds},
                      {"tokens_per_second", p.tokens_per_second(work)},
                      {"utilization_attention", p.metrics.attention.utilisation},
                      {"utilization_experts", p.metrics.expert.utilisation},
                      {"communication_share", communication},
                      {"overlap_efficiency", p.metrics.overlap_efficiency()},
                      {"memory_bytes", memory_json(p.fullest())},
                      {"messages", p.messages},
                      {"message_bytes", p.message_bytes},
                      {"events", p.events},
                      {"wall_seconds", wall_seconds},
                      {"floor_seconds", p.floor_seconds},
                      {"lost_devices", p.lost_devices},
                      {"stall_seconds", p.stall_seconds()}};
  json.update(footprint_json(p, read));
  return json;
}

void print(const Prediction& p, const WorkOptions::Read& read) {
  const Workload& work = read.work;
  fmt::print("{}\n\n", work_text(work));
  Table table({{"figure", Align::left}, {"value"}});
  table.add_row(
      {work.decodes() ? "time per output token" : "step", format_seconds(p.step_seconds)});
  if (p.steps_seconds.size() > 1)
    table.add_row({"slowest step", format_seconds(std::ranges::max(p.steps_seconds))});
  if (p.lost_devices > 0)
    table.add_row({fmt::format("stall, devices lost: {}", p.lost_devices),
                   format_seconds(p.stall_seconds())});
  table.add_row({"no step can be faster than", format_seconds(p.floor_seconds)});
  table.add_row({"tokens/s", format_number(p.tokens_per_second(work))});
  if (work.prompt_tokens() > 0)
    table.add_row({"of them of prompts",
                   format_number(static_cast<double>(work.prompt_tokens()) / p.step_seconds)});
  table.add_row({"attention ranks busy", format_share(p.metrics.attention.utilisation)});
  table.add_row({"expert ranks busy", format_share(p.metrics.expert.utilisation)});
  for (const CommunicationUse& use : p.metrics.communication)
    if (use.kind != MessageKind::control)
      table.add_row({fmt::format("{} messages under way", message_kind_name(use.kind)),
                     format_share(use.share)});
  table.add_row(
      {"of all that hidden behind compute", format_share(p.metrics.overlap_efficiency())});
  for (const MemoryPart& part : memory_parts)
    if (const int64_t bytes = p.fullest().*part.bytes; bytes > 0)
      table.add_row(
          {fmt::format("{}, fullest rank", part.title), format_bytes(static_cast<double>(bytes))});
  table.add_row({"a token costs", footprint_text(p, read)});
  fmt::print("{}", table.text());
}

void run(SimulateOptions& o) {
  const WorkOptions::Read read = o.work.read();
  o.settings.dtype = read.dtype;
  o.settings.seed = o.work.seed;
  for (const std::string& text : o.faults) o.settings.faults.push_back(parse_fault(text));
  const Plan plan = make_plan(o.plan, read.model);
  LiveBalance balance(o.balance, o.work.seed,
                      [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
  o.settings.between_steps = [&](Engine& engine) { balance.after_step(engine); };
  const double start = wall_seconds();
  const Prediction prediction = simulate(read.model, plan, read.cluster, read.work, o.settings);
  print(prediction, read);
  if (!prediction.fits())
    fmt::print(stderr, "does not fit: the fullest rank needs {}, its device has {}\n",
               format_bytes(static_cast<double>(prediction.fullest().all())),
               format_bytes(prediction.fullest().limit_bytes));
  nlohmann::json json = prediction_json(prediction, read, wall_seconds() - start);
  balance.add_to(json);
  write_json(o.work.json_file, json);
  if (!o.trace_file.empty()) write_perfetto(o.trace_file, prediction.spans);
}

}  // namespace

void add_simulate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("simulate", "Run a plan on a described cluster");
  const auto o = std::make_shared<SimulateOptions>();
  o->work.add(*command);
  command->add_option("--plan", o->plan, "Plan file or shorthand")->capture_default_str();
  command->add_option("--steps", o->settings.steps, "Steps to average")->capture_default_str();
  command->add_option("--trace", o->trace_file, "Write the spans of the last step (Perfetto)");
  command
      ->add_option("--routing", o->settings.routing,
                   "uniform | zipf:A | a file of `generate --record-routing`")
      ->capture_default_str();
  command->add_option(
      "--fault", o->faults,
      "WHAT[,at=SECONDS][,slow=FACTOR]: slows by the factor, or fails; WHAT is rank:N, device:N, "
      "link:deviceN, link:nodeN, link:leafN or link:nodeN-nodeM; may be given several times");
  o->balance.add(*command);
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
