// What every command that runs a model is told: which model, plan, dtype, threads.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tandem/plan/shorthand.h"
#include "tandem/trace/metrics.h"
#include "tandem/world/cluster/fleet.h"
#include "tandem/world/engine.h"

namespace tandem::cli {

struct ModelOptions {
  std::string model;
  std::string plan = "single";
  std::string dtype;  // of the weights' file unless set; f32 for random weights
  std::string random_weights;
  int threads = 0;  // 0: all cores
  uint64_t seed = 0;
  double timeout_seconds = 600;
  std::string trace_file, json_file;
  std::vector<std::string> slow;  // RANK:FACTOR
  Fleet* fleet = nullptr;         // of `launch`

  // `with_plan`: whether the command runs one plan, chosen by --plan.
  void add(CLI::App& command, bool with_plan = true);
  int thread_count() const;
  DType weight_dtype(const ModelFiles& files) const;
  // In this process, or in those that were launched.
  MakeWorld world(bool trainable = false, bool shard_optimizer = true) const;
};

// A model directory, opened: its configuration and its weights.
struct LoadedModel {
  std::shared_ptr<const ModelFiles> files;
  std::unique_ptr<ParameterStore> store;
  const ModelConfig& config() const { return files->config(); }
};
// InputError where the directory has no weights and --random-weights is not given.
LoadedModel load_model(const ModelOptions& options, bool trainable);

// Spans of all ranks go to --trace, where asked for.
void write_trace(const ModelOptions& options, Engine& engine);
// Written to a temporary file and renamed.
void write_file(const std::string& file, const std::string& text);
// The same; nothing where --json is not given.
void write_json(const std::string& file, const nlohmann::json& json);

}  // namespace tandem::cli
