// Model directories as Hugging Face lays them out, written whole or not at all: aside, synced, and
// renamed. 8 bits are stored as FP8 (e4m3) with a factor for each block of 128 x 128 numbers, as
// DeepSeek-V3 has them.
#pragma once

#include <filesystem>
#include <functional>

#include "tandem/state/parameter_store.h"

namespace tandem {

// A parameter as it is to be stored: of stored_dtype(kind, dtype), whole.
using WeightOf = std::function<Tensor(const Parameter&)>;

// dtype: f32, bf16 or fp8. InputError where something is at `directory` already, WorldError where
// it cannot be written. `also` adds files of its own to the directory before it appears.
void write_model_directory(const std::filesystem::path& directory, const ModelConfig& config,
                           DType dtype, const WeightOf& weight_of,
                           const std::function<void(const std::filesystem::path&)>& also);

// How a parameter stands in a file of weights in `dtype`.
TensorToStore tensor_to_store(const Parameter& parameter, DType dtype);

}  // namespace tandem
