// The training loop: batches in, steps, checkpoints and validation out.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tandem/train/checkpoint.h"
#include "tandem/train/data.h"
#include "tandem/train/schedule.h"

namespace tandem {

struct TrainSettings {
  std::filesystem::path output;
  int64_t steps = 0;
  int64_t batch_sequences = 0;
  int64_t sequence_tokens = 0;
  LearningRate learning_rate;
  TrainingStep hyper;                // step and learning_rate are filled in
  int64_t save_every_steps = 0;      // 0: at the end alone
  int64_t evaluate_every_steps = 0;  // 0: at the end alone
  int64_t evaluate_batches = 8;      // at most; -1: all
  bool keep_spans = false;           // for a trace of the whole run
};

struct StepRecord {
  int64_t step = 0;  // counts from 1
  TrainingResult result;
  double learning_rate = 0;
  double tokens_per_second = 0;
};
struct ValidationRecord {
  int64_t step = 0;
  double loss = 0;
  double perplexity() const;
};
struct TrainHistory {
  std::vector<StepRecord> steps;
  std::vector<ValidationRecord> validation;
  bool interrupted = false;
};

// What happens on the way; all may be empty.
struct TrainObserver {
  std::function<void(const StepRecord&)> on_step;
  std::function<void(const ValidationRecord&)> on_validation;
  std::function<void(const std::filesystem::path&)> on_saved;
  // A rank was lost (why), and the run goes on after this step.
  std::function<void(int64_t step, const std::string& why)> on_back;
  std::function<bool()> interrupted;  // asked after each step: true saves and stops
};

// Mean loss over counted tokens of the held-out sequences.
double validation_loss(Engine& engine, const Dataset& data, int64_t batch_sequences,
                       int64_t batches);

// Goes on after `state.step` steps; where ranks are lost and replaced, from the last checkpoint or
// the beginning, with the same losses as without. WorldError when the loss is no longer a number:
// names the last good checkpoint.
TrainHistory train(Engine& engine, const Dataset& data, const TrainSettings& settings,
                   TrainerState state, const TrainObserver& observer);

}  // namespace tandem
