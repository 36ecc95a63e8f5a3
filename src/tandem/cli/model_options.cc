#include "tandem/cli/model_options.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/trace/perfetto.h"
#include "tandem/world/cluster/cluster_world.h"

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
    command.add_option("--slow", slow,
                       "RANK:FACTOR: the rank takes so many times as long for everything, for "
                       "trying things out; may be given several times");
    command.add_option("--trace", trace_file, "Write a Chrome/Perfetto trace of all ranks here");
  }
  command.add_option(
      "--dtype", dtype,
      "Of the weights: f32, bf16, int8 or fp8 (default: that of the file, f32 if random)");
  command.add_option("--random-weights", random_weights,
                     "Seed of random weights, for a directory that holds a config alone");
  command.add_option("--threads", threads,
                     "Threads of each process (default: all cores, shared out)");
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
  return files.has_weights() ? computed_dtype(files) : DType::f32;
}

namespace {

// Times as slow, by rank.
std::vector<double> paces(const std::vector<std::string>& slow) {
  constexpr int most_ranks = 1 << 16;
  std::vector<double> pace;
  for (const std::string& text : slow) {
    int rank = -1, end = 0;
    double factor = 0;
    const bool read = std::sscanf(text.c_str(), "%d:%lf%n", &rank, &factor, &end) == 2 &&
                      end == static_cast<int>(text.size());
    if (!read || rank < 0 || rank >= most_ranks || !(factor >= 1 && factor <= 1e6))
      throw InputError("--slow {}: expected a rank and a factor of at least 1, 3:2 say", text);
    if (rank >= std::ssize(pace)) pace.resize(rank + 1, 1);
    pace[rank] = factor;
  }
  return pace;
}

}  // namespace

MakeWorld ModelOptions::world(bool trainable, bool shard_optimizer) const {
  if (!(timeout_seconds > 0)) throw InputError("--timeout {}: must be positive", timeout_seconds);
  WorldSettings settings{.threads = thread_count(),
                         .keep_all_spans = !trace_file.empty(),
                         .pace = paces(slow),
                         .rank = {.timeout_seconds = timeout_seconds,
                                  .trainable = trainable,
                                  .shard_optimizer = shard_optimizer}};
  if (!fleet) return local_world(settings);
  if (threads == 0) settings.threads = std::max(1, settings.threads / fleet->processes());
  return [settings, to = fleet](const Plan& p, ParameterStore& s) {
    return std::make_unique<ClusterWorld>(p, s, settings, *to);
  };
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
  if (trainable && eight_bits(dtype))
    throw InputError("--dtype {}: such weights are not trained", dtype_name(dtype));
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
  // What a model says need not be UTF-8.
  constexpr auto replace = nlohmann::json::error_handler_t::replace;
  if (!file.empty()) write_file(file, json.dump(2, ' ', false, replace) + "\n");
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
