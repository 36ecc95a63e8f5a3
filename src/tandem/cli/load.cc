#include "tandem/serve/load.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/base/error.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct LoadOptions {
  LoadSettings settings;
  std::string prompts_file, json_file;
};

void read_prompts(LoadOptions& o) {
  if (o.prompts_file.empty()) return;
  std::ifstream file(o.prompts_file);
  if (!file) throw InputError("--prompts {}: cannot be read", o.prompts_file);
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) o.settings.lines.push_back(line);
  if (o.settings.lines.empty()) throw InputError("--prompts {}: has no lines", o.prompts_file);
}

void set_clients(LoadSettings& s) {
  constexpr int under_way_at_a_rate = 256;
  if (s.clients == 0 && s.rate_per_second == 0) throw InputError("give --clients or --rate");
  if (s.clients == 0) s.clients = under_way_at_a_rate;
}

void print(const LoadResult& result) {
  Table table({{"", Align::left}, {"mean"}, {"p50"}, {"p90"}, {"p99"}});
  const auto add = [&](const char* name, double mean, const Quantiles& q) {
    table.add_row({name, format_seconds(mean), format_seconds(q.p50), format_seconds(q.p90),
                   format_seconds(q.p99)});
  };
  add("to the first token", result.mean_ttft_seconds, result.ttft_seconds);
  add("each later token", result.mean_tpot_seconds, result.tpot_seconds);
  fmt::print("{} requests in {}, {} failed\n", result.requests, format_seconds(result.seconds),
             result.failed());
  for (const auto& [what, count] : result.errors) fmt::print("  {} x {}\n", count, what);
  fmt::print("{:.1f} tokens/s; {} tokens of prompts, {} of answers\n{}",
             static_cast<double>(result.answer_tokens) / result.seconds,
             format_count(result.prompt_tokens), format_count(result.answer_tokens), table.text());
}

nlohmann::json json_of(const LoadResult& r) {
  const auto spread = [](double mean, const Quantiles& q) {
    return nlohmann::json{{"mean", mean}, {"p50", q.p50}, {"p90", q.p90}, {"p99", q.p99}};
  };
  return {{"requests", r.requests},
          {"failed", r.failed()},
          {"errors", r.errors},
          {"seconds", r.seconds},
          {"prompt_tokens", r.prompt_tokens},
          {"answer_tokens", r.answer_tokens},
          {"tokens_per_second", static_cast<double>(r.answer_tokens) / r.seconds},
          {"requests_per_second", static_cast<double>(r.requests) / r.seconds},
          {"ttft_seconds", spread(r.mean_ttft_seconds, r.ttft_seconds)},
          {"tpot_seconds", spread(r.mean_tpot_seconds, r.tpot_seconds)}};
}

void run(LoadOptions& o) {
  read_prompts(o);
  set_clients(o.settings);
  const LoadResult result = run_load(o.settings);
  print(result);
  write_json(o.json_file, json_of(result));
  if (result.requests > 0 && result.failed() == result.requests)
    throw WorldError("all requests have failed");
}

}  // namespace

void add_load(CLI::App& app) {
  CLI::App* command = app.add_subcommand("load", "Load on a server that speaks OpenAI's API");
  const auto o = std::make_shared<LoadOptions>();
  LoadSettings& s = o->settings;
  command->add_option("--url", s.url, "Of the server, without /v1")->capture_default_str();
  command->add_option("--api-key", s.key, "To bring along (or TANDEM_API_KEY)")
      ->envname("TANDEM_API_KEY");
  command->add_option("--model", s.model, "Its name there (default: the first it has)");
  command->add_option("--clients", s.clients,
                      "Each asks again when it has its answer; with --rate, at most so many wait");
  command->add_option("--rate", s.rate_per_second, "Requests a second, at random moments");
  command->add_option("--seconds", s.seconds, "In which requests begin")->capture_default_str();
  command->add_option("--prompts", o->prompts_file, "Prompts from this file, one a line");
  command->add_option("--prompt-tokens", s.prompt_tokens, "Of prompts that are made up")
      ->capture_default_str();
  command->add_option("--max-tokens", s.max_tokens, "Of an answer")->capture_default_str();
  command->add_flag("--ignore-eos", s.ignores_end,
                    "Answers have all of them (not all servers can)");
  command->add_option("--seed", s.seed, "Of prompts, moments and answers")->capture_default_str();
  command->add_option("--timeout", s.timeout_seconds, "Seconds for an answer")
      ->capture_default_str();
  command->add_option("--json", o->json_file, "Write the results here (docs/json.md)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
