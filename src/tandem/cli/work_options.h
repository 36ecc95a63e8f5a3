// What commands that plan and simulate are told: model, cluster, workload.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tandem/planner/simulation.h"

namespace tandem::cli {

struct WorkOptions {
  std::string model, cluster, dtype = "bf16", json_file;
  std::string contexts_file;
  bool decode = false, prefill = false, train = false, mixed = false;
  Workload work;
  double context_spread = 0;
  double grid_grams_per_kwh = 0;
  uint64_t seed = 0;

  void add(CLI::App& command);
  // What the options say, read and checked. InputError.
  struct Read {
    ModelConfig model;
    Cluster cluster;
    Workload work;
    DType dtype;
    double grid_grams_per_kwh = 0;
  };
  Read read() const;

 private:
  void spread_contexts(Workload& to, int64_t positions) const;
};

// What a token costs beside time: energy, CO2 on the given grid, price of the devices where the
// cluster file has one. Keys of docs/json.md.
nlohmann::json footprint_json(const Prediction& prediction, const WorkOptions::Read& read);
std::string footprint_text(const Prediction& prediction, const WorkOptions::Read& read);

// "384 sequences of 1024 tokens"; keys of docs/json.md, with what a second decodes and takes in of
// prompts where a step does both.
std::string work_text(const Workload& work);
nlohmann::json work_json(const Workload& work, double step_seconds);

// "tpot_seconds" for what decodes, "step_seconds" for all else.
const char* step_key(const Workload& work);

}  // namespace tandem::cli
