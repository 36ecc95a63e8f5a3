#include "tandem/cli/model_options.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/trace/perfetto.h"

namespace tandem::cli {

void ModelOptions::add(CLI::App& command, bool with_plan) {
  command.add_option("--model", model, "Model directory: config.json, and weights (safetensors)")
      ->required();
  if (with_plan) {
    command
        .add_option("--plan", plan,
                    "Plan file (YAML) or shorthand: single | tp:ranks=N | pp:stages=N | "
                    "tp-pp:ranks=N,stages=N | ep:ranks=N | ma:attention=N,experts=N[,sequence=N]"
                    "[,batch=N][,mixed=1]; each with micro_batches=, copies=, "
                    "exchange=heads|sums|replicated")
        ->capture_default_str();
    command.add_option("--trace", trace_file, "Write a Chrome/Perfetto trace of all ranks here");
  }
  command.add_option("--dtype", dtype,
                     "Of the weights: f32, bf16 or fp8 (default: that of the file, f32 if random)");
  command.add_option("--random-weights", random_weights,
                     "Seed of random weights, for a directory that holds a config alone");
  command.add_option("--threads", threads, "Threads of the whole process (default: all cores)");
  command.add_option("--seed", seed, "Seed of everything drawn at random")->capture_default_str();
  command
      .add_option("--timeout", timeout_seconds,
                  "Seconds a rank waits for another before it gives up")
      ->capture_default_str();
  command.add_option("--json", json_file, "Write the results here (docs/json.md)");
}

int ModelOptions::thread_count() const {
  if (threads < 0) throw InputError("--threads {}: must be at least 1", threads);
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

DType ModelOptions::weight_dtype(const ModelFiles& files) const {
  if (!dtype.empty()) return parse_dtype(dtype);
  if (!files.has_weights()) return DType::f32;
  const auto first = parameters(files.config()).front();
  return files.find(first).dtype == StoredType::f32 ? DType::f32 : DType::bf16;
}

WorldSettings ModelOptions::world(bool trainable) const {
  if (!(timeout_seconds > 0)) throw InputError("--timeout {}: must be positive", timeout_seconds);
  return {.threads = thread_count(),
          .keep_all_spans = !trace_file.empty(),
          .rank = {.timeout_seconds = timeout_seconds, .trainable = trainable}};
}

namespace {

uint64_t parse_seed(const std::string& text) {
  size_t used = 0;
  uint64_t seed = 0;
  try {
    seed = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != text.size()) throw InputError("--random-weights {}: not a number", text);
  return seed;
}

}  // namespace

LoadedModel load_model(const ModelOptions& options, bool trainable) {
  LoadedModel model{.files = std::make_shared<ModelFiles>(options.model)};
  const DType dtype = options.weight_dtype(*model.files);
  if (trainable && dtype == DType::fp8)
    throw InputError("--dtype fp8: such weights are not trained");
  const auto device = make_cpu_device(options.thread_count());
  if (model.files->has_weights()) {
    if (!options.random_weights.empty())
      throw InputError("--random-weights: {} has weights already", options.model);
    model.files->require_all();
    model.store = std::make_unique<ParameterStore>(
        ParameterStore::load(model.files, dtype, trainable, *device));
  } else {
    if (options.random_weights.empty())
      throw InputError("{}: has no weights (--random-weights SEED makes some)", options.model);
    model.store = std::make_unique<ParameterStore>(ParameterStore::random(
        model.files->config(), parse_seed(options.random_weights), dtype, *device));
  }
  return model;
}

void write_trace(const ModelOptions& options, Engine& engine) {
  if (!options.trace_file.empty()) write_perfetto(options.trace_file, engine.spans());
}

void write_json(const std::string& file, const nlohmann::json& json) {
  if (!file.empty()) write_file(file, json.dump(2) + "\n");
}

void write_file(const std::string& file, const std::string& text) {
  // A pipe or a device is written to; only a plain file is replaced as a whole.
  const bool replaces = !std::filesystem::exists(file) || std::filesystem::is_regular_file(file);
  const std::filesystem::path target = replaces ? file + ".partial" : file;
  std::ofstream stream(target);
  stream << text;
  stream.close();
  if (!stream) throw WorldError("{}: cannot be written", file);
  if (replaces) std::filesystem::rename(target, file);
}

}  // namespace tandem::cli
