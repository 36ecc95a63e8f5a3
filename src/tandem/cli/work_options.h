// What commands that plan and simulate are told: model, cluster, workload.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tandem/planner/simulation.h"

namespace tandem::cli {

struct WorkOptions {
  std::string model, cluster, dtype = "bf16", json_file;
  bool decode = false, prefill = false, train = false;
  Workload work;
  uint64_t seed = 0;

  void add(CLI::App& command);
  // What the options say, read and checked. InputError.
  struct Read {
    ModelConfig model;
    Cluster cluster;
    Workload work;
    DType dtype;
  };
  Read read() const;
};

// "tpot_seconds" for decoding, "step_seconds" for all else.
const char* step_key(const Workload& work);

}  // namespace tandem::cli
