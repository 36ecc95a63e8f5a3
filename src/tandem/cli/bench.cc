#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tandem/cli/bench_kernels.h"
#include "tandem/cli/bench_prediction.h"
#include "tandem/cli/bench_steps.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/local_cluster.h"
#include "tandem/cli/machine.h"
#include "tandem/cli/model_options.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/device/cpu/gemm.h"
#include "tandem/report/format.h"

namespace tandem::cli {
namespace {

struct BenchOptions {
  ModelOptions model;
  bool quick = false;
  std::string bf16;
};

// The path that --bf16 names, or the fastest.
void choose_bf16_path(const std::string& name) {
  using enum cpu::Bf16Path;
  if (name.empty()) return;
  const cpu::Bf16Path path = name == "amx" ? amx : name == "avx512" ? avx512 : as_f32;
  if (!cpu::bf16_path_supported(path))
    throw InputError("--bf16 {}: this processor lacks the instructions", name);
  cpu::set_bf16_path(path);
}

const char* const separation = "separation";
const char* const separated_plans[] = {"ma:attention=1,experts=1",
                                       "ma:attention=1,experts=1,micro_batches=2"};
const char* const other_plans[] = {"tp:ranks=2", "pp:stages=2", "ep:ranks=2"};

constexpr double probe_seconds = 0.06;

nlohmann::json print_ceilings(const Bench& bench) {
  auto json = nlohmann::json::array();
  Table table({{"ceilings of this machine", Align::left}, {"1 thread"}, {"all threads"}});
  const int threads = bench.settings().threads;
  const auto add = [&](const std::string& name, const char* unit, double one, double all) {
    table.add_row({name, format_si(one, unit), format_si(all, unit)});
    json.push_back({{"name", name}, {"one_thread", one}, {"all_threads", all}});
  };
  for (const DType dtype : {DType::bf16, DType::f32}) {
    const Ceilings one = bench.ceilings(dtype, 1), all = bench.ceilings(dtype, threads);
    add(fmt::format("{} products ({})", dtype_name(dtype), cpu::peak_instructions(dtype)), "FLOP/s",
        one.flops_per_second, all.flops_per_second);
    const double loaded = cpu::loaded_flops_per_second(dtype, 1, probe_seconds);
    if (loaded > 0)
      add(fmt::format("{} products, operands from the first-level cache", dtype_name(dtype)),
          "FLOP/s", loaded, cpu::loaded_flops_per_second(dtype, threads, probe_seconds));
    if (dtype == DType::f32)
      add("reading memory", "B/s", one.bytes_per_second, all.bytes_per_second);
  }
  fmt::print("{}, {} threads\n\n{}\n", machine_name(), threads, table.text());
  return json;
}

void print_section(const Bench& bench, const std::string& section) {
  fmt::print("{}\n", figures_table(bench.figures(), section).text());
  std::fflush(stdout);
}

// Separated plans beside the others with as many ranks; how many times as fast they are.
nlohmann::json bench_separation(StepBench& steps, int64_t context, Table& table) {
  auto json = nlohmann::json::array();
  constexpr int64_t sequences = 32;
  std::vector<Figure> others;
  for (const char* plan : other_plans)
    others.push_back(steps.decode(separation, {plan, sequences, context}));
  for (const char* plan : separated_plans) {
    const Figure own = steps.decode(separation, {plan, sequences, context});
    std::vector<std::string> row{plan, std::to_string(context)};
    for (size_t i = 0; i < others.size(); ++i) {
      const double ratio = others[i].seconds / own.seconds;
      row.push_back(fmt::format("{:.2f}", ratio));
      json.push_back({{"plan", plan},
                      {"context_tokens", context},
                      {"other_plan", other_plans[i]},
                      {"speed_ratio", ratio}});
    }
    table.add_row(std::move(row));
  }
  return json;
}

nlohmann::json bench_steps(Bench& bench, ParameterStore& store) {
  StepBench steps(bench, store);
  const bool quick = bench.settings().quick;
  steps.prefill(512);
  for (const int64_t sequences : {1, 16, 32})
    steps.decode("whole steps", {"single", sequences, 128});

  Table ratios({{"times as fast as", Align::left},
                {"context"},
                {"tp:ranks=2"},
                {"pp:stages=2"},
                {"ep:ranks=2"}});
  auto json = nlohmann::json::array();
  for (const int64_t context : {128, 4096})
    if (!quick || context == 128)
      for (auto& ratio : bench_separation(steps, context, ratios)) json.push_back(ratio);

  constexpr int64_t sequences = 8, sequence_tokens = 512;
  constexpr int64_t activation_bytes = 2'500'000'000;
  const int64_t needed =
      StepBench::training_bytes(store.config(), store.dtype()) + activation_bytes;
  if (quick)
    fmt::print(stderr, "training: left out (--quick)\n");
  else if (needed > memory_bytes("MemAvailable"))
    fmt::print(stderr, "training: left out, it needs {}, {} are free\n",
               format_bytes(static_cast<double>(needed)),
               format_bytes(static_cast<double>(memory_bytes("MemAvailable"))));
  else
    steps.training(sequences, sequence_tokens);
  print_section(bench, "whole steps");
  print_section(bench, separation);
  fmt::print("{}\n", ratios.text());
  return json;
}

void run(BenchOptions& o) {
  if (o.model.dtype.empty()) o.model.dtype = "bf16";
  choose_bf16_path(o.bf16);
  Bench bench({.threads = o.model.thread_count(), .quick = o.quick});
  nlohmann::json json{{"machine", machine_name()}, {"threads", bench.settings().threads}};
  json["ceilings"] = print_ceilings(bench);
  if (!ModelFiles(o.model.model).has_weights() && o.model.random_weights.empty())
    o.model.random_weights = "1";
  const LoadedModel model = load_model(o.model, false);
  if (model.config().max_positions < 512)
    throw InputError("--model {}: has {} positions, bench needs 512 (and 4352 without --quick)",
                     o.model.model, model.config().max_positions);
  if (!o.quick && model.config().max_positions < 4096 + 256)
    throw InputError("--model {}: has {} positions, bench needs 4352 (512 with --quick)",
                     o.model.model, model.config().max_positions);
  bench_kernels(bench, *model.store, *make_cpu_device(bench.settings().threads));
  for (const char* section : {"dense products", "experts of a layer", "attention of a layer"})
    print_section(bench, section);
  json["speed_ratios"] = bench_steps(bench, *model.store);
  LocalCalibration calibration(*model.store, bench.settings().threads);
  json["prediction"] = bench_prediction(*model.store, calibration, false);
  json["figures"] = figures_json(bench.figures());
  write_json(o.model.json_file, json);
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App* command = app.add_subcommand("bench", "Speed against what this machine can do");
  const auto o = std::make_shared<BenchOptions>();
  o->model.model = "configs/models/shape-s";
  o->model.add(*command, false);
  command->get_option("--model")->required(false)->capture_default_str();
  command->add_flag("--quick", o->quick, "Fewer sizes and less time for each");
  command
      ->add_option("--bf16", o->bf16,
                   "How bf16 is multiplied, and the peak that figures are shares of: amx, avx512 "
                   "(dot products, the peak of processors without AMX), f32; else the fastest")
      ->check(CLI::IsMember({"amx", "avx512", "f32"}));
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
