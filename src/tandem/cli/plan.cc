#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/work_options.h"
#include "tandem/plan/plan_file.h"
#include "tandem/planner/search.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct PlanOptions {
  WorkOptions work;
  std::string output;
  int shown = 12;
  SearchSettings settings;
};

nlohmann::json to_json(const Candidate& c, const Workload& work) {
  return {{"plan", c.plan},
          {"kind", c.kind},
          {"simulated", c.simulated},
          {step_key(work), c.seconds()},
          {"tokens_per_second", static_cast<double>(work.tokens()) / c.seconds()},
          {"floor_seconds", c.estimate.floor_seconds},
          {"bound_by", c.estimate.bound_by},
          {"memory_bytes_per_rank", c.estimate.memory_bytes}};
}

void print(const SearchResult& result, const Workload& work, int shown) {
  Table table({{"plan", Align::left},
               {work.kind == WorkKind::decode ? "time/token" : "step"},
               {"tokens/s"},
               {"floor"},
               {"bound by", Align::left},
               {"memory a rank"}});
  for (const Candidate& c : result.ranked) {
    if (!c.simulated || std::ssize(table.rows()) >= shown) break;
    table.add_row({c.plan, format_seconds(c.seconds()),
                   format_number(static_cast<double>(work.tokens()) / c.seconds()),
                   format_seconds(c.estimate.floor_seconds), c.estimate.bound_by,
                   format_bytes(c.estimate.memory_bytes)});
  }
  fmt::print("{}", table.text());
  // The best of every kind, where it is not among those above.
  for (const char* kind : {"single", "tp", "pp", "tp-pp", "ep", "ma"}) {
    const auto best = std::ranges::find_if(
        result.ranked, [&](const Candidate& c) { return c.simulated && c.kind == kind; });
    if (best != result.ranked.end() && best - result.ranked.begin() >= shown)
      fmt::print("best {}: {}, {}\n", kind, best->plan, format_seconds(best->seconds()));
  }
  fmt::print(stderr, "{} candidates, {} too large for memory{}{}\n", result.candidates,
             result.too_large, result.too_large > 0 ? "; of these " : "",
             result.too_large > 0 ? result.smallest_too_large : "");
}

void run(PlanOptions& o) {
  const WorkOptions::Read read = o.work.read();
  o.settings.dtype = read.dtype;
  o.settings.seed = o.work.seed;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const SearchResult result =
      search(read.model, read.cluster, read.work, o.settings, [&](int done, int all) {
        if (terminal)
          fmt::print(stderr, "\rsimulating {}/{}{}", done, all, done == all ? "\n" : "");
      });
  print(result, read.work, o.shown);
  nlohmann::json json{{"candidates", result.candidates}, {"too_large", result.too_large}};
  json["plans"] = nlohmann::json::array();
  for (const Candidate& c : result.ranked) json["plans"].push_back(to_json(c, read.work));
  write_json(o.work.json_file, json);
  if (!o.output.empty())
    write_file(o.output, plan_yaml(plan_from_shorthand(result.ranked.front().plan, read.model)));
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Find the best plan for a workload on a cluster");
  const auto o = std::make_shared<PlanOptions>();
  o->work.add(*command);
  command->add_option("--tpot-limit", o->settings.limit_seconds,
                      "Seconds a step may take; slower plans are left out");
  command->add_option("--simulate", o->settings.simulated, "Candidates that the simulator settles (default: by the number of devices)");
  command->add_option("--show", o->shown, "Lines of the table")->capture_default_str();
  command->add_option("--output", o->output, "Write the best plan here (YAML)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
