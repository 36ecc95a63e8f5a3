// A model directory as Hugging Face lays it out: config.json and, unless the model is yet to be
// made, weights in model.safetensors or in the shards that model.safetensors.index.json lists.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tandem/model/config.h"
#include "tandem/model/parameters.h"
#include "tandem/model/safetensors.h"

namespace tandem {

// A matrix in fp8 (e4m3) has f32 factors beside it, one for each block of 128 x 128 numbers, which
// are multiplied by it (DeepSeek-V3's weight_scale_inv): what they are called, and their shape.
std::string factors_name(std::string_view matrix);
std::vector<int64_t> factors_shape(const Parameter& matrix);

class ModelFiles {
 public:
  // InputError where config.json is missing or wrong, or weights are there but cannot be read.
  explicit ModelFiles(std::filesystem::path directory);

  const std::filesystem::path& directory() const { return directory_; }
  const ModelConfig& config() const { return config_; }
  bool has_weights() const { return !files_.empty(); }

  // Null where the weights have no tensor of this name. Nothing is checked.
  const StoredTensor* find(std::string_view name) const;
  // InputError where the tensor is missing, of another shape, or neither f32, f16, bf16 nor fp8
  // with its factors.
  const StoredTensor& find(const Parameter& parameter) const;
  // Of a tensor in fp8. Null where there are none.
  const StoredTensor* factors_of(std::string_view name) const;
  // Checks all of them at once: one InputError names the first that is missing and counts the rest.
  void require(std::span<const Parameter> parameters) const;
  void require_all() const { require(parameters(config_)); }

  // Once a tensor was copied (or packed) its pages need not stay in memory.
  void release_pages(const StoredTensor& tensor) const;

 private:
  struct Place {
    const SafetensorsFile* file = nullptr;
    const StoredTensor* tensor = nullptr;
  };
  void open_single(const std::filesystem::path& file);
  void open_shards(const std::filesystem::path& index);
  void check(const Place& place, const Parameter& parameter) const;

  std::filesystem::path directory_;
  std::filesystem::path weights_name_;  // the single file or the index
  ModelConfig config_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::unordered_map<std::string_view, Place> places_;  // names belong to the files
};

}  // namespace tandem
