#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tandem/cli/bench_prediction.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/local_cluster.h"
#include "tandem/cli/machine.h"
#include "tandem/cli/model_options.h"
#include "tandem/device/cpu/ceilings.h"

namespace tandem::cli {
namespace {

constexpr int calibration_rounds = 3;

struct CalibrateOptions {
  ModelOptions model;
  std::string output;
  bool train = false, check = false;
};

void run(CalibrateOptions& o) {
  if (o.model.dtype.empty()) o.model.dtype = "bf16";
  if (o.model.random_weights.empty() && !ModelFiles(o.model.model).has_weights())
    o.model.random_weights = "1";
  if (o.check && o.model.thread_count() < 2) throw InputError("--check: needs two threads");
  const LoadedModel model = load_model(o.model, o.train);
  LocalCalibration calibration(*model.store, o.train);
  if (o.check)
    write_json(o.model.json_file,
               {{"prediction", bench_prediction(*model.store, calibration, o.train)}});
  else
    for (int round = 0; round < calibration_rounds; ++round) calibration.round();
  write_file(o.output, "# Measured by `tandem calibrate` on " + machine_name() + ".\n" +
                           cluster_yaml(calibration.cluster(o.model.thread_count())));
}

}  // namespace

void LocalCalibration::round() {
  const Plan single = make_plan("single", store_.config());
  const auto add = [&](const Workload& work, int steps) {
    for (RankSpans& rank : measure(store_, single, work, 1, steps).spans)
      spans_.push_back(std::move(rank));
    fmt::print(stderr, ".");
  };
  for (const int64_t sequences : {1, 4, 16, 32})
    add({.kind = WorkKind::decode, .sequences = sequences, .context_tokens = 128}, 4);
  for (const int64_t tokens : {32, 128, 256, 512})
    add({.kind = WorkKind::prefill, .sequences = 1, .context_tokens = tokens}, 2);
  if (trains_)
    for (const int64_t sequences : {1, 2, 4})
      add({.kind = WorkKind::train, .sequences = sequences, .context_tokens = 128}, 1);
  fmt::print(stderr, "\n");
}

Cluster LocalCalibration::cluster(int threads) const {
  constexpr int64_t probe_bytes = int64_t{1} << 30;
  constexpr double peak_seconds = 0.2;
  DeviceType type{.name = "cpu",
                  .memory_bytes_per_second = cpu::ReadProbe(probe_bytes).bytes_per_second(1),
                  .memory_bytes = static_cast<double>(memory_bytes("MemTotal")) / threads,
                  .operations = fit_operations(spans_)};
  for (const DType dtype : {DType::bf16, DType::f32})
    type.flops_per_second[std::string(dtype_name(dtype))] =
        cpu::peak_flops_per_second(dtype, 1, peak_seconds);
  Cluster cluster{.name = "local", .types = {type}};
  cluster.nodes.push_back(
      {.devices = std::vector<int>(static_cast<size_t>(threads), 0),
       .inside = {.bytes_per_second = 1e12,  // memory changes hands, no bytes move
                  .latency_seconds = message_latency_seconds()}});
  return cluster;
}

void add_calibrate(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("calibrate", "Measure this machine's operations and links");
  const auto o = std::make_shared<CalibrateOptions>();
  o->model.model = "configs/models/ma-1024";
  o->model.add(*command, false);
  command->get_option("--model")->required(false)->capture_default_str();
  command->add_flag("--train", o->train, "Operations of training as well");
  command->add_flag("--check", o->check,
                    "Then hold predictions against measurements, for plans of up to two ranks");
  command->add_option("--output", o->output, "Write the cluster file here")->required();
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
