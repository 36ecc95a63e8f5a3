#include "tandem/cli/balance_options.h"

#include <nlohmann/json.hpp>

#include "tandem/base/number_list.h"
#include "tandem/report/format.h"

namespace tandem::cli {

void BalanceOptions::add(CLI::App& command) {
  command
      .add_option("--balance", settings.every_steps,
                  "Every so many steps heads, experts and ranks move where that pays; 0: never")
      ->capture_default_str();
  command
      .add_option("--balance-threshold", settings.threshold,
                  "Share of a step's time that a move has to gain")
      ->capture_default_str();
  command.add_option("--balance-attention", attention_ranks,
                     "LEAST,MOST attention ranks of a stage that balancing may come to");
}

namespace {

BalanceSettings checked(const BalanceOptions& options, uint64_t seed) {
  BalanceSettings settings = options.settings;
  settings.seed = seed;
  if (settings.every_steps < 0)
    throw InputError("--balance {}: must be 0 (never) or more", settings.every_steps);
  if (!(settings.threshold > 0 && settings.threshold < 1))
    throw InputError("--balance-threshold {}: must be above 0 and below 1", settings.threshold);
  if (options.attention_ranks.empty()) return settings;
  const auto bounds = parse_numbers<int>(options.attention_ranks);
  if (!bounds || bounds->size() != 2 || (*bounds)[0] < 1 || (*bounds)[0] > (*bounds)[1])
    throw InputError("--balance-attention {}: expected two numbers, 8,14 say",
                     options.attention_ranks);
  settings.bounds = {(*bounds)[0], (*bounds)[1]};
  return settings;
}

std::string text_of(const BalanceRecord& r) {
  std::string text = fmt::format(
      "balance after step {}: {} a step (attention {}, experts {}), busiest rank {} above the mean",
      r.step, format_seconds(r.step_seconds), format_seconds(r.attention_seconds),
      format_seconds(r.expert_seconds), format_share(r.imbalance));
  if (r.linear_error > 0)
    text += fmt::format("; predictions off by {} (linear) and {} (network)",
                        format_share(r.linear_error), format_share(r.network_error));
  if (r.moved)
    return text + fmt::format("; moved {} for {} less, {} in {}", r.what, format_share(r.gain),
                              format_bytes(r.move_bytes), format_seconds(r.move_seconds));
  return text + "; " + (r.what.empty() ? "nothing seen yet" : r.what);
}

}  // namespace

LiveBalance::LiveBalance(const BalanceOptions& options, uint64_t seed,
                         std::function<void(const std::string&)> note)
    : settings_(checked(options, seed)), on_(options.on()), note_(std::move(note)) {}

void LiveBalance::after_step(Engine& engine) {
  if (!on_) return;
  // What comes before the first step sets the engine up.
  if (!balancer_) balancer_ = std::make_unique<Balancer>(engine, settings_);
  const auto record = balancer_->after_step();
  if (!record) return;
  records_.push_back(*record);
  note_(text_of(*record));
}

void LiveBalance::add_to(nlohmann::json& json) const {
  if (!on_) return;
  json["balance"] = nlohmann::json::array();
  for (const BalanceRecord& r : records_)
    json["balance"].push_back({{"step", r.step},
                               {"step_seconds", r.step_seconds},
                               {"attention_seconds", r.attention_seconds},
                               {"expert_seconds", r.expert_seconds},
                               {"imbalance", r.imbalance},
                               {"gain", r.gain},
                               {"moved", r.moved},
                               {"what", r.what},
                               {"move_seconds", r.move_seconds},
                               {"move_bytes", r.move_bytes},
                               {"linear_error", r.linear_error},
                               {"network_error", r.network_error}});
}

}  // namespace tandem::cli
