// What commands that plan and simulate are told: model, cluster, workload.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tandem/planner/simulation.h"

namespace tandem::cli {

struct WorkOptions {
  std::string model, cluster, dtype = "bf16", json_file;
  bool decode = false, prefill = false, train = false;
  Workload work;
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
};

// What a token costs beside time: energy, CO2 on the given grid, price of the devices where the
// cluster file has one. Keys of docs/json.md.
nlohmann::json footprint_json(const Prediction& prediction, const WorkOptions::Read& read);
std::string footprint_text(const Prediction& prediction, const WorkOptions::Read& read);

// "tpot_seconds" for decoding, "step_seconds" for all else.
const char* step_key(const Workload& work);

}  // namespace tandem::cli
