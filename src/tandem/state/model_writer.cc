#include "tandem/state/model_writer.h"

#include <nlohmann/json.hpp>

#include "tandem/base/durable.h"
#include "tandem/base/error.h"
#include "tandem/device/block_scales.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

StoredType stored_type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return StoredType::f32;
    case DType::bf16:
      return StoredType::bf16;
    case DType::fp8:
      return StoredType::f8_e4m3;
    default:
      TANDEM_CHECK(false, "no file has weights in {}", dtype_name(dtype));
  }
}

void write_tensor(const SafetensorsWriter& writer, const std::string& name, const Tensor& t) {
  const int64_t row_bytes = t.cols * size_of(t.dtype);
  for (int64_t row = 0; row < t.rows; ++row)
    writer.write(name, row * row_bytes, {t.row_bytes(row), static_cast<size_t>(row_bytes)});
}

void write_weights(const fs::path& file, const std::vector<Parameter>& all, DType dtype,
                   const WeightOf& weight_of) {
  std::vector<TensorToStore> tensors;
  for (const Parameter& p : all) {
    if (p.name.empty()) continue;
    tensors.push_back(tensor_to_store(p, dtype));
    if (tensors.back().dtype == StoredType::f8_e4m3)
      tensors.push_back({factors_name(p.name), StoredType::f32, factors_shape(p)});
  }
  SafetensorsWriter writer(file, tensors, {{"format", "pt"}});
  for (const Parameter& p : all) {
    if (p.name.empty()) continue;
    const Tensor weight = weight_of(p);
    write_tensor(writer, p.name, weight);
    if (weight.dtype == DType::fp8)
      write_tensor(writer, factors_name(p.name), *scales_of(weight).factors);
  }
  writer.close();
}

std::string config_text(const ModelConfig& config, DType dtype) {
  auto json = nlohmann::ordered_json::parse(config_json(config));
  json["torch_dtype"] = dtype == DType::f32 ? "float32" : "bfloat16";
  if (dtype == DType::fp8)
    json["quantization_config"] = {{"activation_scheme", "dynamic"},
                                   {"fmt", "e4m3"},
                                   {"quant_method", "fp8"},
                                   {"weight_block_size", {scale_block, scale_block}}};
  return json.dump(2) + "\n";
}

}  // namespace

TensorToStore tensor_to_store(const Parameter& p, DType dtype) {
  return {p.name, stored_type_of(stored_dtype(p.id.kind, dtype)), p.stored_shape()};
}

void write_model_directory(const fs::path& directory, const ModelConfig& config, DType dtype,
                           const WeightOf& weight_of,
                           const std::function<void(const fs::path&)>& also) {
  if (fs::exists(directory)) throw InputError("{}: is there already", directory.string());
  const fs::path partial = directory.string() + ".partial";
  try {
    fs::remove_all(partial);
    fs::create_directories(partial);
    also(partial);
    write_weights(partial / "model.safetensors", parameters(config), dtype, weight_of);
    write_durably(partial / "config.json", config_text(config, dtype));
    sync_directory(partial);
    fs::rename(partial, directory);
    sync_directory(fs::absolute(directory).parent_path());
  } catch (const std::exception& error) {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
    throw WorldError("{} was not written: {}", directory.string(), error.what());
  }
}

}  // namespace tandem
