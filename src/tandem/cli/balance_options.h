// Live balancing from the command line: what is asked for, and what is told of it.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tandem/balance/balancer.h"

namespace tandem::cli {

struct BalanceOptions {
  BalanceSettings settings{.every_steps = 0};  // 0: off
  std::string attention_ranks;

  void add(CLI::App& command);
  bool on() const { return settings.every_steps != 0; }
};

// Balances an engine between its steps, where that was asked for.
class LiveBalance {
 public:
  // InputError for what does not make sense. `note` is told a line about each look.
  LiveBalance(const BalanceOptions& options, uint64_t seed,
              std::function<void(const std::string&)> note);
  // To be called after each step of one and the same engine.
  void after_step(Engine& engine);
  void add_to(nlohmann::json& json) const;

 private:
  BalanceSettings settings_;
  bool on_;
  std::function<void(const std::string&)> note_;
  std::unique_ptr<Balancer> balancer_;
  std::vector<BalanceRecord> records_;
};

}  // namespace tandem::cli
