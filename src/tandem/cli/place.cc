#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/planner/placement.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct PlaceOptions {
  std::string loads, coactivation, current, json_file;
  int ranks = 1, nodes = 1, slots = 0;
};

using Rows = std::vector<std::vector<double>>;

Rows read_csv(const std::string& option, const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw InputError("{} {}: cannot be read", option, file);
  Rows rows;
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.empty() || line == "\r") continue;
    auto& row = rows.emplace_back();
    const char* at = line.data();
    const char* const end = at + line.size() - (line.back() == '\r');
    while (at < end) {
      while (at < end && *at == ' ') ++at;
      double value = 0;
      const auto [next, error] = std::from_chars(at, end, value);
      if (error != std::errc() || (next < end && *next != ','))
        throw InputError("{} {}, line {}: expected numbers and commas", option, file, number);
      row.push_back(value);
      at = next + 1;
    }
    if (row.size() != rows.front().size())
      throw InputError("{} {}, line {}: {} numbers, the first line has {}", option, file, number,
                       row.size(), rows.front().size());
  }
  if (rows.empty()) throw InputError("{} {}: is empty", option, file);
  return rows;
}

// Layer by layer: as many rows as there are experts.
Rows coactivation_of(const Rows& all, size_t layer, size_t layers, size_t experts,
                     const std::string& file) {
  if (all.size() != experts && all.size() != layers * experts)
    throw InputError("--coactivation {}: {} rows for {} layers of {} experts", file, all.size(),
                     layers, experts);
  const size_t first = all.size() == experts ? 0 : layer * experts;
  return {all.begin() + static_cast<ptrdiff_t>(first),
          all.begin() + static_cast<ptrdiff_t>(first + experts)};
}

// What an earlier run wrote with --json.
std::vector<ExpertRanks> read_current(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw InputError("--current {}: cannot be read", file);
  try {
    return nlohmann::json::parse(stream).at("placement").get<std::vector<ExpertRanks>>();
  } catch (const nlohmann::json::exception& error) {
    throw InputError("--current {}: {}", file, error.what());
  }
}

void run(const PlaceOptions& o) {
  const Rows loads = read_csv("--loads", o.loads);
  const Rows coactivation =
      o.coactivation.empty() ? Rows() : read_csv("--coactivation", o.coactivation);
  const std::vector<ExpertRanks> current =
      o.current.empty() ? std::vector<ExpertRanks>() : read_current(o.current);
  if (!current.empty() && current.size() != loads.size())
    throw InputError("--current {}: {} layers, --loads has {}", o.current, current.size(),
                     loads.size());
  nlohmann::json json;
  Table table({{"layer"}, {"max/mean"}, {"lower bound"}, {"between nodes"}, {"moved"}});
  for (size_t layer = 0; layer < loads.size(); ++layer) {
    PlacementProblem problem{
        .loads = loads[layer],
        .ranks = o.ranks,
        .nodes = o.nodes,
        .slots = o.slots > 0 ? o.slots : static_cast<int>(loads[layer].size())};
    if (!coactivation.empty())
      problem.coactivation =
          coactivation_of(coactivation, layer, loads.size(), problem.loads.size(), o.coactivation);
    if (!current.empty()) problem.current = current[layer];
    Placement placement;
    try {
      placement = place_experts(problem);
    } catch (const InputError& error) {
      throw InputError("{}, layer {}: {}", o.loads, layer, error.what());
    }
    json["placement"].push_back(placement.ranks);
    json["max_over_mean"].push_back(placement.max_over_mean);
    json["max_over_mean_lower_bound"].push_back(placement.max_over_mean_lower_bound);
    json["internode_tokens"].push_back(placement.internode_tokens);
    json["moved_experts"].push_back(placement.moved_experts);
    table.add_row({std::to_string(layer), fmt::format("{:.4f}", placement.max_over_mean),
                   fmt::format("{:.4f}", placement.max_over_mean_lower_bound),
                   fmt::format("{:.6g}", placement.internode_tokens),
                   current.empty() ? "-" : std::to_string(placement.moved_experts)});
  }
  fmt::print("{}", table.text());
  write_json(o.json_file, json);
}

}  // namespace

void add_place(CLI::App& app) {
  CLI::App* command = app.add_subcommand("place", "Choose the ranks of experts from their loads");
  const auto o = std::make_shared<PlaceOptions>();
  command->add_option("--loads", o->loads, "CSV: a row a layer, the tokens of each expert")
      ->required();
  command->add_option("--ranks", o->ranks, "Expert ranks")->required();
  command->add_option("--nodes", o->nodes, "Nodes that hold equal shares of them")
      ->capture_default_str();
  command->add_option("--slots", o->slots,
                      "Experts that all ranks together hold (default: each expert once)");
  command->add_option(
      "--coactivation", o->coactivation,
      "CSV: tokens that go to both of two experts; for all layers, or layer by layer");
  command->add_option("--current", o->current, "Today's placement: JSON of an earlier run");
  command->add_option("--json", o->json_file, "Write the results here (docs/json.md)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
