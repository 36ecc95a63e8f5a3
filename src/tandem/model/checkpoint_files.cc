#include "tandem/model/checkpoint_files.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "tandem/base/error.h"
#include "tandem/model/json_text.h"

namespace tandem {

namespace {

constexpr const char* single_name = "model.safetensors";
constexpr const char* index_name = "model.safetensors.index.json";

// A shard's path must not lead out of the directory. Links may: the Hugging Face cache is made of
// links, and they are the user's own, not the index file's.
bool stays_inside(const std::filesystem::path& path) {
  if (path.empty() || path.is_absolute() || !path.has_filename()) return false;
  for (const std::filesystem::path& step : path) {
    if (step == "..") return false;
  }
  return true;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t n : shape) text += fmt::format("{}{}", text.empty() ? "" : ", ", n);
  return "[" + text + "]";
}

bool is_weight_type(StoredType type) {
  return type == StoredType::f32 || type == StoredType::f16 || type == StoredType::bf16 ||
         type == StoredType::f8_e4m3;
}

}  // namespace

std::string factors_name(std::string_view matrix) { return std::string(matrix) + "_scale_inv"; }

std::vector<int64_t> factors_shape(const Parameter& p) {
  constexpr int64_t block = 128;
  return {(p.rows + block - 1) / block, (p.cols + block - 1) / block};
}

ModelFiles::ModelFiles(std::filesystem::path directory) : directory_(std::move(directory)) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory_, error)) {
    throw InputError("{}: is not a directory", directory_.string());
  }
  config_ = read_config(directory_ / "config.json");
  const std::filesystem::path single = directory_ / single_name;
  const std::filesystem::path index = directory_ / index_name;
  if (std::filesystem::exists(single, error)) {
    open_single(single);
  } else if (std::filesystem::exists(index, error)) {
    open_shards(index);
  } else {
    for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
      if (std::filesystem::exists(directory_ / name, error)) {
        throw InputError("{}: only safetensors weights are read; save the model as such",
                         (directory_ / name).string());
      }
    }
  }
}

void ModelFiles::open_single(const std::filesystem::path& file) {
  weights_name_ = file;
  files_.push_back(std::make_unique<SafetensorsFile>(file));
  for (const StoredTensor& tensor : files_.back()->tensors()) {
    places_[tensor.name] = {files_.back().get(), &tensor};
  }
}

void ModelFiles::open_shards(const std::filesystem::path& index) {
  weights_name_ = index;
  const std::string where = index.string();
  const nlohmann::json root = parse_json(read_text(index, largest_json_bytes), where);
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    throw InputError("{}: weight_map must be an object", where);
  }
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, value] : root["weight_map"].items()) {
    if (!value.is_string()) {
      throw InputError("{}: weight_map: {} must be a file name", where, printable(name));
    }
    const std::string shard = value.get<std::string>();
    if (!stays_inside(shard)) {
      throw InputError("{}: weight_map: {}: {} is not a file within the directory", where,
                       printable(name), printable(shard));
    }
    const auto [it, fresh] = shards.try_emplace(shard, nullptr);
    if (fresh) {
      files_.push_back(std::make_unique<SafetensorsFile>(directory_ / shard));
      it->second = files_.back().get();
    }
    const StoredTensor* tensor = it->second->find(name);
    if (!tensor) {
      throw InputError("{}: weight_map: {} is not in {}", where, printable(name), printable(shard));
    }
    places_[tensor->name] = {it->second, tensor};
  }
  if (files_.empty()) throw InputError("{}: weight_map is empty", where);
}

const StoredTensor* ModelFiles::find(std::string_view name) const {
  const auto it = places_.find(name);
  return it == places_.end() ? nullptr : it->second.tensor;
}

const StoredTensor* ModelFiles::factors_of(std::string_view name) const {
  return find(factors_name(name));
}

const StoredTensor& ModelFiles::find(const Parameter& parameter) const {
  require(std::span(&parameter, 1));
  return *places_.find(parameter.name)->second.tensor;
}

void ModelFiles::require(std::span<const Parameter> parameters) const {
  if (!has_weights()) {
    throw InputError("{}: has no weights: neither {} nor {}", directory_.string(), single_name,
                     index_name);
  }
  const Parameter* first_missing = nullptr;
  int64_t missing = 0;
  for (const Parameter& parameter : parameters) {
    if (parameter.name.empty()) continue;
    const auto it = places_.find(parameter.name);
    if (it != places_.end()) {
      check(it->second, parameter);
    } else if (missing++ == 0) {
      first_missing = &parameter;
    }
  }
  if (missing == 1) {
    throw InputError("{}: tensor {} is missing", weights_name_.string(), first_missing->name);
  }
  if (missing > 1) {
    throw InputError("{}: {} tensors are missing, the first is {}", weights_name_.string(), missing,
                     first_missing->name);
  }
}

void ModelFiles::check(const Place& place, const Parameter& parameter) const {
  const StoredTensor& tensor = *place.tensor;
  if (tensor.shape != parameter.stored_shape()) {
    throw InputError("{}: tensor {} has shape {}, but config.json makes it {}",
                     place.file->path().string(), parameter.name, shape_text(tensor.shape),
                     shape_text(parameter.stored_shape()));
  }
  if (!is_weight_type(tensor.dtype)) {
    throw InputError("{}: tensor {} is {}; weights must be F32, F16, BF16 or F8_E4M3",
                     place.file->path().string(), parameter.name, stored_type_name(tensor.dtype));
  }
  if (tensor.dtype != StoredType::f8_e4m3) return;
  const StoredTensor* factors = factors_of(parameter.name);
  if (!factors || factors->dtype != StoredType::f32 || factors->shape != factors_shape(parameter)) {
    throw InputError("{}: tensor {} is F8_E4M3, so {} must be F32 {}", place.file->path().string(),
                     parameter.name, factors_name(parameter.name),
                     shape_text(factors_shape(parameter)));
  }
}

void ModelFiles::release_pages(const StoredTensor& tensor) const {
  const auto it = places_.find(tensor.name);
  if (it != places_.end()) it->second.file->release_pages(*it->second.tensor);
}

}  // namespace tandem
