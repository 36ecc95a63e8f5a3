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

constexpr int rounds = 3;

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
  LocalCalibration calibration(*model.store, o.model.thread_count());
  if (o.check)
    write_json(o.model.json_file,
               {{"prediction", bench_prediction(*model.store, calibration, o.train)}});
  else
    for (int round = 0; round < rounds; ++round) {
      for (int i = 0; i < inferences_a_training; ++i) calibration.infer();
      if (o.train) calibration.train();
    }
  write_file(o.output, "# Measured by `tandem calibrate` on " + machine_name() + ".\n" +
                           cluster_yaml(calibration.cluster()));
}

}  // namespace

LocalCalibration::LocalCalibration(ParameterStore& store, int threads) : threads_(threads) {
  for (const bool crowded : {false, true}) {
    // The crowd reads different experts: what one of it reads would come from the cache for others.
    const int ranks = crowded ? threads : 1;
    const Plan plan = make_plan(fmt::format("ep:ranks={}", ranks), store.config());
    // Each rank has as much to do as one that is alone.
    const auto add = [&](std::vector<Measurement>& to, Workload work, int steps) {
      work.sequences *= ranks;
      to.emplace_back(store, plan, work, steps);
    };
    for (const int64_t sequences : {1, 4, 16, 32})
      add(inference_[crowded],
          {.kind = WorkKind::decode, .sequences = sequences, .context_tokens = 128}, 4);
    for (const int64_t tokens : {32, 128, 256, 512})
      add(inference_[crowded],
          {.kind = WorkKind::prefill, .sequences = 1, .context_tokens = tokens}, 2);
    for (const int64_t sequences : {1, 2, 4})
      add(training_[crowded],
          {.kind = WorkKind::train, .sequences = sequences, .context_tokens = 128}, 1);
  }
}

void LocalCalibration::infer() {
  for (auto& measurements : inference_)
    for (Measurement& m : measurements) m.run();
  fmt::print(stderr, ".");
}

void LocalCalibration::train() {
  for (auto& measurements : training_)
    for (Measurement& m : measurements) m.run();
  fmt::print(stderr, ":");
}

std::vector<RankSpans> LocalCalibration::spans(bool crowded) const {
  std::vector<RankSpans> all;
  for (const auto* measurements : {&inference_[crowded], &training_[crowded]})
    for (const Measurement& m : *measurements)
      all.insert(all.end(), m.spans().begin(), m.spans().end());
  return all;
}

Cluster LocalCalibration::cluster() const {
  constexpr int64_t probe_bytes = int64_t{1} << 30;
  constexpr double peak_seconds = 0.2;
  DeviceType type{.name = "cpu",
                  .memory_bytes_per_second = cpu::ReadProbe(probe_bytes).bytes_per_second(1),
                  .memory_bytes = static_cast<double>(memory_bytes("MemTotal")) / threads_,
                  .operations = fit_operations(spans(false), spans(true))};
  for (const DType dtype : {DType::bf16, DType::f32})
    type.flops_per_second[std::string(dtype_name(dtype))] =
        cpu::peak_flops_per_second(dtype, 1, peak_seconds);
  Cluster cluster{.name = "local", .types = {type}};
  cluster.nodes.push_back(
      {.devices = std::vector<int>(static_cast<size_t>(threads_), 0),
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
