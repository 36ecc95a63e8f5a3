#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/plan/plan_file.h"
#include "tandem/planner/search.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct PlanOptions {
  std::string model, cluster, dtype = "bf16", output, json_file;
  bool decode = false, prefill = false, train = false;
  int shown = 12;
  Workload work;
  SearchSettings settings;
};

nlohmann::json to_json(const Candidate& c, const Workload& work) {
  return {{"plan", c.plan},
          {"kind", c.kind},
          {"simulated", c.simulated},
          {work.kind == WorkKind::decode ? "tpot_seconds" : "step_seconds", c.seconds()},
          {"tokens_per_second", static_cast<double>(work.tokens()) / c.seconds()},
          {"floor_seconds", c.estimate.floor_seconds},
          {"bound_by", c.estimate.bound_by},
          {"memory_bytes_per_rank", c.estimate.memory_bytes}};
}

void print(const SearchResult& result, const PlanOptions& o) {
  Table table({{"plan", Align::left},
               {o.work.kind == WorkKind::decode ? "time/token" : "step"},
               {"tokens/s"},
               {"floor"},
               {"bound by", Align::left},
               {"memory a rank"}});
  for (const Candidate& c : result.ranked) {
    if (!c.simulated || std::ssize(table.rows()) >= o.shown) break;
    table.add_row({c.plan, format_seconds(c.seconds()),
                   format_number(static_cast<double>(o.work.tokens()) / c.seconds()),
                   format_seconds(c.estimate.floor_seconds), c.estimate.bound_by,
                   format_bytes(c.estimate.memory_bytes)});
  }
  fmt::print("{}", table.text());
  // The best of every kind, where it is not among those above.
  for (const char* kind : {"single", "tp", "pp", "tp-pp", "ep", "ma"}) {
    const auto best = std::ranges::find_if(
        result.ranked, [&](const Candidate& c) { return c.simulated && c.kind == kind; });
    if (best != result.ranked.end() && best - result.ranked.begin() >= o.shown)
      fmt::print("best {}: {}, {}\n", kind, best->plan, format_seconds(best->seconds()));
  }
  fmt::print(stderr, "{} candidates, {} too large for memory{}{}\n", result.candidates,
             result.too_large, result.too_large > 0 ? "; of these " : "",
             result.too_large > 0 ? result.smallest_too_large : "");
}

void run(PlanOptions& o) {
  if (o.decode + o.prefill + o.train > 1)
    throw InputError("--decode, --prefill, --train: choose one");
  if (o.work.sequences < 1 || o.work.context_tokens < 1)
    throw InputError("--batch {}, --context {}: must be at least 1", o.work.sequences,
                     o.work.context_tokens);
  o.work.kind = o.train ? WorkKind::train : o.prefill ? WorkKind::prefill : WorkKind::decode;
  o.settings.dtype = parse_dtype(o.dtype);
  const ModelConfig model = ModelFiles(o.model).config();
  const Cluster cluster = read_cluster(o.cluster);
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const SearchResult result = search(model, cluster, o.work, o.settings, [&](int done, int all) {
    if (terminal) fmt::print(stderr, "\rsimulating {}/{}{}", done, all, done == all ? "\n" : "");
  });
  print(result, o);
  nlohmann::json json{{"candidates", result.candidates}, {"too_large", result.too_large}};
  json["plans"] = nlohmann::json::array();
  for (const Candidate& c : result.ranked) json["plans"].push_back(to_json(c, o.work));
  write_json(o.json_file, json);
  if (!o.output.empty())
    write_file(o.output, plan_yaml(plan_from_shorthand(result.ranked.front().plan, model)));
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Find the best plan for a workload on a cluster");
  const auto o = std::make_shared<PlanOptions>();
  command->add_option("--model", o->model, "Model directory; its config.json is enough")
      ->required();
  command->add_option("--cluster", o->cluster, "Cluster file (docs/clusters.md)")->required();
  command->add_flag("--decode", o->decode, "One token for every sequence a step (the default)");
  command->add_flag("--prefill", o->prefill, "Whole prompts");
  command->add_flag("--train", o->train, "A training step");
  command->add_option("--batch", o->work.sequences, "Sequences a step")->required();
  command
      ->add_option("--context", o->work.context_tokens,
                   "Tokens a sequence has (decode), or is made of")
      ->required();
  command->add_option("--tpot-limit", o->settings.tpot_limit_seconds,
                      "Seconds a step may take; slower plans are left out");
  command->add_option("--simulate", o->settings.simulated, "Candidates that the simulator settles")
      ->capture_default_str();
  command->add_option("--show", o->shown, "Lines of the table")->capture_default_str();
  command->add_option("--dtype", o->dtype, "f32 or bf16")->capture_default_str();
  command->add_option("--seed", o->settings.seed, "Seed of the routing")->capture_default_str();
  command->add_option("--output", o->output, "Write the best plan here (YAML)");
  command->add_option("--json", o->json_file, "Write all plans here (docs/json.md)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
