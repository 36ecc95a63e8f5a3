#include <cstdio>
#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/compare_report.h"
#include "tandem/cli/comparison.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/program.h"

namespace tandem::cli {
namespace {

struct CompareOptions {
  ModelOptions model;
  std::string plans =
      "single;tp:ranks=2;pp:stages=2;ep:ranks=2;ma:attention=1,experts=1,micro_batches=2";
  int64_t batch = 8, prompt_tokens = 64, new_tokens = 32;
  std::string html, history;
};

struct NamedPlan {
  std::string name;
  Plan plan;
};

void check(const CompareOptions& o, const ModelConfig& model) {
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1) throw InputError("{} {}: must be at least 1", name, value);
  };
  positive("--batch", o.batch);
  positive("--prompt-length", o.prompt_tokens);
  positive("--new-tokens", o.new_tokens);
  if (o.prompt_tokens > model.max_positions - std::min(o.new_tokens, model.max_positions))
    throw InputError("--prompt-length {} and --new-tokens {}: the model has {} positions",
                     o.prompt_tokens, o.new_tokens, model.max_positions);
  if (!o.history.empty() && o.html.empty())
    throw InputError("--history: is for the report, give --html FILE as well");
  if (!o.history.empty()) check_history(o.history);
}

// All plans are looked at before any is run.
std::vector<NamedPlan> parse_plans(const CompareOptions& o, const ModelConfig& model) {
  std::vector<NamedPlan> plans;
  for (size_t begin = 0; begin <= o.plans.size();) {
    const size_t end = std::min(o.plans.find(';', begin), o.plans.size());
    const std::string name = o.plans.substr(begin, end - begin);
    begin = end + 1;
    if (name.find_first_not_of(" \n") == std::string::npos) continue;
    const size_t first = name.find_first_not_of(" \n");
    const size_t last = name.find_last_not_of(" \n");
    const std::string trimmed = name.substr(first, last + 1 - first);
    plans.push_back({trimmed, make_plan(trimmed, model)});
  }
  if (plans.empty()) throw InputError("--plans: names no plan");
  return plans;
}

nlohmann::json communication_json(const Metrics& metrics) {
  auto kinds = nlohmann::json::array();
  for (const CommunicationUse& use : metrics.communication)
    kinds.push_back({{"kind", message_kind_name(use.kind)},
                     {"share", use.share},
                     {"waiting_share", use.waiting_share},
                     {"messages", use.messages},
                     {"bytes", use.bytes}});
  return kinds;
}

nlohmann::json result_json(const PlanResult& r, const ModelConfig& model) {
  std::vector<int64_t> totals;
  for (size_t rank = 0; rank < r.roles.size(); ++rank) totals.push_back(r.bytes.total(rank));
  return {{"name", r.name},
          {"ranks", r.ranks()},
          {"tokens_per_second", r.tokens_per_second()},
          {"tpot_seconds", r.tpot_seconds()},
          {"prefill_tokens_per_second", r.prefill_tokens_per_second()},
          {"utilization_attention", r.decode.attention.utilisation},
          {"utilization_experts", r.decode.expert.utilisation},
          {"communication_share", r.decode.communication_share},
          {"overlap_efficiency", r.decode.overlap_efficiency()},
          {"memory_bytes_per_rank", totals},
          {"same_tokens", r.same_tokens},
          {"max_relative_error", r.max_relative_error},
          {"roles", r.roles},
          {"waiting_share", r.decode.waiting.mean},
          {"waiting_share_deviation", r.decode.waiting.standard_deviation},
          {"communication", communication_json(r.decode)},
          {"memory_bytes",
           {{"parameters", r.bytes.parameters},
            {"kv_cache", r.bytes.kv_cache},
            {"activations", r.bytes.activations}}},
          {"expert_load_max_over_mean", expert_load_max_over_mean(r, model)},
          {"expert_tokens", r.expert_tokens}};
}

void run(const CompareOptions& o) {
  const LoadedModel model = load_model(o.model, false);
  const ModelConfig& config = model.config();
  check(o, config);
  const std::vector<NamedPlan> plans = parse_plans(o, config);
  const int processes = o.model.fleet ? o.model.fleet->processes() : 1;
  const int threads = processes * o.model.thread_count();
  for (const NamedPlan& p : plans)
    if (p.plan.ranks() > threads)
      fmt::print(stderr, "warning: plan '{}' has {} ranks, which share {} threads\n", p.name,
                 p.plan.ranks(), threads);

  Comparison comparison(*model.store, o.model.world(),
                        random_prompts(o.model.seed, o.batch, o.prompt_tokens, config.vocab_size),
                        o.new_tokens);
  fmt::print(stderr, "reference: single\n");
  comparison.make_reference(make_plan("single", config));
  std::vector<PlanResult> results;
  for (const NamedPlan& p : plans) {
    fmt::print(stderr, "plan {} of {}: {}\n", results.size() + 1, plans.size(), p.name);
    results.push_back(comparison.run(p.name, p.plan));
  }
  std::fputs(comparison_table(results).text().c_str(), stdout);

  nlohmann::json json{{"plans", nlohmann::json::array()}};
  for (const PlanResult& result : results) json["plans"].push_back(result_json(result, config));
  write_json(o.model.json_file, json);
  if (o.html.empty()) return;
  write_report({.file = o.html,
                .history = o.history,
                .model = o.model.model,
                .work = fmt::format("{} sequences with random prompts of {} tokens, {} new tokens "
                                    "each, greedily; {} threads for the whole process.",
                                    o.batch, o.prompt_tokens, o.new_tokens, threads)},
               config, model.store->dtype(), results);
  fmt::print(stderr, "report: {}\n", o.html);
}

}  // namespace

void add_compare(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("compare", "Run the same work under several plans");
  const auto o = std::make_shared<CompareOptions>();
  o->model.fleet = session.fleet;
  o->model.add(*command, false);
  command->add_option("--plans", o->plans, "Plans, as for --plan elsewhere, separated by ';'")
      ->capture_default_str();
  command->add_option("--batch", o->batch, "Sequences")->capture_default_str();
  command->add_option("--prompt-length", o->prompt_tokens, "Tokens of each prompt")
      ->capture_default_str();
  command->add_option("--new-tokens", o->new_tokens, "Tokens each sequence goes on for")
      ->capture_default_str();
  command->add_option("--html", o->html, "Write a report with charts here, as one HTML file");
  command->add_option("--history", o->history,
                      "What `tandem train --json` wrote: puts the loss into the report");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
