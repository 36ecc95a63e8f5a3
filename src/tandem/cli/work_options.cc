#include "tandem/cli/work_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "tandem/model/checkpoint_files.h"
#include "tandem/planner/contexts.h"

namespace tandem::cli {

void WorkOptions::add(CLI::App& command) {
  command.add_option("--model", model, "Model directory; its config.json is enough")->required();
  command.add_option("--cluster", cluster, "Cluster file (docs/clusters.md)")->required();
  command.add_flag("--decode", decode, "One token for every sequence a step (the default)");
  command.add_flag("--prefill", prefill, "Whole prompts");
  command.add_flag("--train", train, "A training step");
  CLI::Option* mixes =
      command.add_flag("--mixed", mixed, "Decoding with chunks of prompts beside it");
  command.add_option("--batch", work.sequences, "Sequences a step")->capture_default_str();
  command
      .add_option("--context", work.context_tokens,
                  "Tokens a sequence has (decode), or is made of (prefill, train, prompts of "
                  "--mixed); the mean, where they differ")
      ->capture_default_str();
  command
      .add_option("--context-spread", context_spread,
                  "Contexts differ: standard deviation in tokens, log-normal, cut off at the "
                  "model's positions")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--contexts", contexts_file,
                  "Contexts as recorded: a file of numbers, one a sequence, in place of "
                  "--context")
      ->excludes("--context-spread")
      ->excludes("--context");
  command
      .add_option("--prompts", work.prompts, "--mixed: prompts of which a step takes in a chunk")
      ->needs(mixes)
      ->capture_default_str();
  command.add_option("--chunk", work.chunk_tokens, "--mixed: most tokens of a chunk")
      ->needs(mixes)
      ->capture_default_str();
  command.add_option("--accumulate", work.groups, "Training: groups of micro-batches")
      ->capture_default_str();
  command.add_flag("--checkpoint-activations", work.checkpoint_activations,
                   "Training: keep less for the backward pass and compute it again");
  command
      .add_option("--dtype", dtype,
                  "Of the weights: f32, bf16, int8 or fp8 (attention and experts; the rest bf16)")
      ->capture_default_str();
  command.add_option("--grid-g-per-kwh", grid_grams_per_kwh, "CO2 of the grid: grams a kWh")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--seed", seed, "Seed of the routing")->capture_default_str();
  command.add_option("--json", json_file, "Write the results here (docs/json.md)");
}

WorkOptions::Read WorkOptions::read() const {
  if (decode + prefill + train + mixed > 1)
    throw InputError("--decode, --prefill, --train, --mixed: choose one");
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1) throw InputError("{} {}: must be at least 1", name, value);
  };
  positive("--batch", work.sequences);
  positive("--context", work.context_tokens);
  positive("--accumulate", work.groups);
  positive("--prompts", work.prompts);
  positive("--chunk", work.chunk_tokens);
  Read read{.model = ModelFiles(model).config(),
            .cluster = read_cluster(cluster),
            .work = work,
            .dtype = parse_dtype(dtype),
            .grid_grams_per_kwh = grid_grams_per_kwh};
  read.work.kind = train     ? WorkKind::train
                   : prefill ? WorkKind::prefill
                   : mixed   ? WorkKind::mixed
                             : WorkKind::decode;
  if (train && (context_spread > 0 || !contexts_file.empty()))
    throw InputError("--train: its sequences are equally long, contexts cannot differ");
  spread_contexts(read.work, read.model.max_positions);
  if (const int64_t longest = read.work.longest_context(); longest > read.model.max_positions)
    throw InputError("--context {}: the model has {} positions", longest, read.model.max_positions);
  return read;
}

void WorkOptions::spread_contexts(Workload& to, int64_t positions) const {
  constexpr int64_t room = 64;  // for what is decoded
  if (context_spread > 0) {
    const double mean = static_cast<double>(to.context_tokens);
    const double most = static_cast<double>(positions - room);
    to.context_shape =
        draw_context_shape(to.sequences, context_spread / mean, std::max(1.0, most / mean), seed);
  }
  if (contexts_file.empty()) return;
  const std::vector<int64_t> contexts = read_contexts(contexts_file);
  double sum = 0;
  for (const int64_t tokens : contexts) sum += static_cast<double>(tokens);
  to.context_tokens = std::llround(sum / static_cast<double>(contexts.size()));
  for (const int64_t tokens : contexts)
    to.context_shape.push_back(static_cast<double>(tokens) /
                               static_cast<double>(to.context_tokens));
}

namespace {

constexpr double joules_per_kwh = 3.6e6;

double co2_grams_per_token(const Prediction& p, const WorkOptions::Read& read) {
  return p.joules_per_token(read.work) / joules_per_kwh * read.grid_grams_per_kwh;
}

}  // namespace

nlohmann::json footprint_json(const Prediction& p, const WorkOptions::Read& read) {
  nlohmann::json json{{"energy_joules_per_token", p.joules_per_token(read.work)}};
  if (read.grid_grams_per_kwh > 0) json["co2_grams_per_token"] = co2_grams_per_token(p, read);
  if (p.price_per_hour > 0)
    json["price_per_million_tokens"] = p.price_per_million_tokens(read.work);
  return json;
}

std::string footprint_text(const Prediction& p, const WorkOptions::Read& read) {
  std::string text = fmt::format("{:.3g} J", p.joules_per_token(read.work));
  if (read.grid_grams_per_kwh > 0)
    text += fmt::format(", {:.3g} mg CO2", 1e3 * co2_grams_per_token(p, read));
  if (p.price_per_hour > 0)
    text += fmt::format(", {:.3g} a million", p.price_per_million_tokens(read.work));
  return text;
}

std::string work_text(const Workload& work) {
  const int64_t shortest = work.shortest_context(), longest = work.longest_context();
  std::string text = fmt::format("{} sequence{} of {} tokens", work.sequences,
                                 work.sequences == 1 ? "" : "s", work.context_tokens);
  if (shortest < longest) text += fmt::format(" ({} to {})", shortest, longest);
  if (work.kind == WorkKind::mixed)
    text += fmt::format(", beside them {} prompt token{}", work.prompt_tokens(),
                        work.prompt_tokens() == 1 ? "" : "s");
  return text;
}

nlohmann::json work_json(const Workload& work, double step_seconds) {
  constexpr const char* kinds[] = {"decode", "prefill", "train", "mixed"};
  nlohmann::json json{{"kind", kinds[static_cast<size_t>(work.kind)]},
                      {"sequences", work.sequences},
                      {"context_tokens", work.context_tokens},
                      {"shortest_context_tokens", work.shortest_context()},
                      {"longest_context_tokens", work.longest_context()}};
  if (work.kind != WorkKind::mixed) return json;
  json["prompt_tokens"] = work.prompt_tokens();
  json["decoded_tokens_per_second"] = static_cast<double>(work.sequences) / step_seconds;
  json["prompt_tokens_per_second"] = static_cast<double>(work.prompt_tokens()) / step_seconds;
  return json;
}

const char* step_key(const Workload& work) {
  return work.decodes() ? "tpot_seconds" : "step_seconds";
}

}  // namespace tandem::cli
