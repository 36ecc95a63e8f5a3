#include <fmt/format.h>

#include "tandem/cli/commands.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/model/upcycle.h"
#include "tandem/report/format.h"
#include "tandem/state/model_writer.h"
#include "tandem/train/checkpoint.h"

namespace tandem::cli {
namespace {

struct ConvertOptions {
  std::string from, to, dtype;
  int64_t experts = 0, top_k = 2;
  uint64_t seed = 0;
};

DType dtype_of(const ConvertOptions& o, const ModelFiles& files) {
  const DType dtype = o.dtype.empty() ? computed_dtype(files) : parse_dtype(o.dtype);
  if (dtype == DType::int8)
    throw InputError("--dtype int8: is made when a model is loaded; files have f32, bf16 or fp8");
  return dtype;
}

void run(const ConvertOptions& o) {
  if (o.experts == 0 && o.top_k != ConvertOptions().top_k)
    throw InputError("--top-k is for --experts");
  const auto files = std::make_shared<ModelFiles>(o.from);
  files->require_all();
  const DType dtype = dtype_of(o, *files);
  const ModelConfig& before = files->config();
  const ModelConfig after = o.experts > 0 ? upcycled(before, o.experts, o.top_k) : before;
  const auto device = make_cpu_device(1);
  const ParameterStore store = ParameterStore::load(files, dtype, false, *device);
  const auto weight_of = [&](const Parameter& p) {
    const auto origin = after == before ? p.id : origin_of(p.id);
    if (origin) return store.whole(*origin);
    return random_parameter(after, p, static_cast<uint64_t>(p.id.layer), o.seed, dtype, *device);
  };
  write_model_directory(o.to, after, dtype, weight_of,
                        [&](const auto& directory) { take_tokenizer(o.from, directory); });
  fmt::print("{}: {}, {} parameters in {}, {}\n", o.to, after.model_type, parameter_count(after),
             dtype_name(dtype),
             format_bytes(static_cast<double>(
                 std::filesystem::file_size(std::filesystem::path(o.to) / "model.safetensors"))));
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "convert", "Write a model in another dtype, or a dense one as a mixture of experts");
  const auto o = std::make_shared<ConvertOptions>();
  command->add_option("--from", o->from, "Model directory")->required();
  command->add_option("--to", o->to, "Where it is written; must not be there yet")->required();
  command->add_option("--dtype", o->dtype,
                      "f32, bf16, or fp8 (e4m3 with a factor for each block of 128 x 128, as "
                      "DeepSeek-V3; attention and experts, the rest bf16); default: as it is");
  command->add_option("--experts", o->experts,
                      "Of a dense model: so many copies of its network in every layer");
  command->add_option("--top-k", o->top_k, "Experts that serve a token")->capture_default_str();
  command->add_option("--seed", o->seed, "Of the routers of such a mixture")->capture_default_str();
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
