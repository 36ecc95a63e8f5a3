// Checkpoints of a training run. A run directory holds
//   checkpoint-N/                     config.json, model.safetensors, optimizer.safetensors and
//                                     trainer.json after step N
//   latest                            a link to the newest of them
//   config.json, model.safetensors    links into latest: a run directory is a model directory
// A checkpoint appears whole or not at all: it is written aside, synced and renamed. It does not
// depend on the plan it was written under.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "tandem/world/engine.h"

namespace tandem {

struct TrainerState {
  int64_t step = 0;  // steps done
  uint64_t seed = 0;
};

// WorldError where it cannot be written (StateLost where a rank was lost); older checkpoints are
// then untouched. Keeps the newest two.
// What the run directory has of the model's tokenizer goes with it.
void save_checkpoint(Engine& engine, const TrainerState& state, const std::filesystem::path& run);
// The tokenizer of a model directory, as far as there is one, goes to a run directory.
void take_tokenizer(const std::filesystem::path& model, const std::filesystem::path& run);

// The newest checkpoint of a run directory, if there is one.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& run);

// Where a checkpoint's run stood. InputError where the file cannot be read.
TrainerState load_trainer_state(const std::filesystem::path& checkpoint);

// Weights and optimizer of an engine whose ranks have lost theirs; where the run stood then.
// InputError as below, StateLost as Engine.
TrainerState restore_checkpoint(Engine& engine, const std::filesystem::path& checkpoint);

// Fills in the optimizer of an engine whose weights were loaded from the same checkpoint.
// InputError where the files are not those of this model.
void load_optimizer(Engine& engine, const std::filesystem::path& checkpoint);

}  // namespace tandem
