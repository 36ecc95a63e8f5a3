#include "tandem/cli/work_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tandem/model/checkpoint_files.h"

namespace tandem::cli {

void WorkOptions::add(CLI::App& command) {
  command.add_option("--model", model, "Model directory; its config.json is enough")->required();
  command.add_option("--cluster", cluster, "Cluster file (docs/clusters.md)")->required();
  command.add_flag("--decode", decode, "One token for every sequence a step (the default)");
  command.add_flag("--prefill", prefill, "Whole prompts");
  command.add_flag("--train", train, "A training step");
  command.add_option("--batch", work.sequences, "Sequences a step")->capture_default_str();
  command
      .add_option("--context", work.context_tokens,
                  "Tokens a sequence has (decode), or is made of (prefill, train)")
      ->capture_default_str();
  command.add_option("--accumulate", work.groups, "Training: groups of micro-batches")
      ->capture_default_str();
  command
      .add_option("--dtype", dtype,
                  "Of the weights: f32, bf16 or fp8 (attention and experts; the rest bf16)")
      ->capture_default_str();
  command.add_option("--grid-g-per-kwh", grid_grams_per_kwh, "CO2 of the grid: grams a kWh")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--seed", seed, "Seed of the routing")->capture_default_str();
  command.add_option("--json", json_file, "Write the results here (docs/json.md)");
}

WorkOptions::Read WorkOptions::read() const {
  if (decode + prefill + train > 1) throw InputError("--decode, --prefill, --train: choose one");
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1) throw InputError("{} {}: must be at least 1", name, value);
  };
  positive("--batch", work.sequences);
  positive("--context", work.context_tokens);
  positive("--accumulate", work.groups);
  Read read{.model = ModelFiles(model).config(),
            .cluster = read_cluster(cluster),
            .work = work,
            .dtype = parse_dtype(dtype),
            .grid_grams_per_kwh = grid_grams_per_kwh};
  read.work.kind = train ? WorkKind::train : prefill ? WorkKind::prefill : WorkKind::decode;
  if (work.context_tokens > read.model.max_positions)
    throw InputError("--context {}: the model has {} positions", work.context_tokens,
                     read.model.max_positions);
  return read;
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

const char* step_key(const Workload& work) {
  return work.kind == WorkKind::decode ? "tpot_seconds" : "step_seconds";
}

}  // namespace tandem::cli
