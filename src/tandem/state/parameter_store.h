// The weights of a model, held once in a process whatever the plan: ranks compute with views.
#pragma once

#include <map>
#include <memory>

#include "tandem/device/device.h"
#include "tandem/model/checkpoint_files.h"
#include "tandem/plan/layout.h"

namespace tandem {

// Reading is safe from any thread. Writing (training) is for whoever updates a region, between
// steps.
class ParameterStore {
 public:
  // The weights in a model directory, in `dtype`. Used from the mapped file where its dtype and
  // alignment allow it and they are not to be trained; else copied. InputError where they do not
  // fit.
  // With 8 bits the matrices of attention and experts are quantised (with int8 an output head of
  // its own too), and the rest is bf16.
  static ParameterStore load(std::shared_ptr<const ModelFiles> files, DType dtype, bool trainable,
                             Device& device);
  // Normal numbers of deviation initializer_range from the seed; norms are 1, biases 0.
  static ParameterStore random(const ModelConfig& config, uint64_t seed, DType dtype,
                               Device& device);

  // Room for weights that are to come; what is never written takes no memory.
  static ParameterStore blank(const ModelConfig& config, DType dtype, Device& device);
  // No numbers: for ranks on simulated devices.
  static ParameterStore shapes(const ModelConfig& config, DType dtype);

  DType weight_dtype() const { return dtype_; }         // as asked for
  DType dtype() const { return compute_type(dtype_); }  // of activations
  const ModelConfig& config() const { return config_; }
  // Where the weights can be read again as they are; empty: nowhere.
  std::filesystem::path directory() const;
  Tensor region(const Region& region) const;
  Tensor whole(const ParameterId& id) const { return tensors_.at(id); }
  int64_t mapped_bytes() const { return mapped_bytes_; }
  int64_t copied_bytes() const { return copied_bytes_; }

 private:
  ParameterStore(const ModelConfig& config, DType dtype) : config_(config), dtype_(dtype) {}

  ModelConfig config_;
  DType dtype_;
  std::shared_ptr<const ModelFiles> files_;  // keeps the mapping
  bool trainable_ = false;
  std::map<ParameterId, Tensor> tensors_;
  int64_t mapped_bytes_ = 0;
  int64_t copied_bytes_ = 0;
};

// In what the weights of a model directory can be computed with as they are: f32 or bf16.
DType computed_dtype(const ModelFiles& files);
// As ParameterStore::random makes it; `item` tells it apart from others of the seed.
Tensor random_parameter(const ModelConfig& config, const Parameter& parameter, uint64_t item,
                        uint64_t seed, DType dtype, Device& device);
// How a parameter is kept where weights are asked for in `dtype`.
DType stored_dtype(ParameterKind kind, DType dtype);
int64_t weight_bytes(const std::vector<Region>& regions, DType dtype);

// A tensor over bytes that belong to someone who outlives it.
Tensor view_of(const std::byte* bytes, int64_t rows, int64_t cols, DType dtype);

}  // namespace tandem
