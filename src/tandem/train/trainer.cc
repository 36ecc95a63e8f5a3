#include "tandem/train/trainer.h"

#include <cmath>

namespace tandem {

double ValidationRecord::perplexity() const { return std::exp(loss); }

namespace {

[[noreturn]] void stop_for_nan(const StepRecord& record, const std::filesystem::path& run) {
  const auto checkpoint = latest_checkpoint(run);
  throw WorldError("step {}: the loss is {} and the gradient's norm {}; stopped. {}", record.step,
                   record.result.loss, record.result.gradient_norm,
                   checkpoint ? fmt::format("The last good checkpoint is {}", checkpoint->string())
                              : std::string("No checkpoint was saved yet"));
}

bool due(int64_t step, int64_t every, int64_t last) {
  return step == last || (every > 0 && step % every == 0);
}

}  // namespace

double validation_loss(Engine& engine, const Dataset& data, int64_t batch_sequences,
                       int64_t batches) {
  double sum = 0, weight = 0;
  for (const TrainingBatch& batch : data.validation_batches(batch_sequences, batches)) {
    double tokens = 0;
    for (const float w : batch.weights) tokens += w;
    sum += tokens * engine.evaluate(batch).loss;
    weight += tokens;
  }
  if (weight == 0) throw InputError("the data is too short to hold any of it out for validation");
  return sum / weight;
}

namespace {

// A training run under way.
class Run {
 public:
  Run(Engine& engine, const Dataset& data, const TrainSettings& settings, TrainerState state,
      const TrainObserver& observer)
      : engine_(engine), data_(data), settings_(settings), observer_(observer), state_(state) {
    if (state.step > 0) last_good_ = latest_checkpoint(settings.output);
    begun_ = state;
  }

  TrainHistory go() {
    while (state_.step < settings_.steps && !history_.interrupted) {
      try {
        step();
      } catch (const StateLost& error) {
        go_back(error.what());
      }
    }
    return std::move(history_);
  }

 private:
  void step();
  void save();
  // To the last consistent state of all ranks; the steps since then are done again.
  void go_back(const std::string& why);

  Engine& engine_;
  const Dataset& data_;
  const TrainSettings& settings_;
  const TrainObserver& observer_;
  TrainerState state_, begun_;
  std::optional<std::filesystem::path> last_good_;
  TrainHistory history_;
};

void Run::step() {
  const auto now = [&] { return engine_.world().controller().now_seconds(); };
  const TrainingBatch batch = data_.batch(state_.step, settings_.batch_sequences);
  TrainingStep hyper = settings_.hyper;
  hyper.step = state_.step + 1;
  hyper.seed = state_.seed;
  hyper.learning_rate = static_cast<float>(settings_.learning_rate.at(state_.step));
  const double start = now();
  StepRecord record{.step = hyper.step, .learning_rate = hyper.learning_rate};
  record.result = engine_.train(batch, hyper);
  record.tokens_per_second =
      static_cast<double>(batch.sequences * batch.sequence_tokens) / (now() - start);
  if (!settings_.keep_spans) engine_.clear_spans();
  if (!std::isfinite(record.result.loss) || !std::isfinite(record.result.gradient_norm))
    stop_for_nan(record, settings_.output);
  ++state_.step;
  history_.steps.push_back(record);
  if (observer_.on_step) observer_.on_step(record);

  history_.interrupted = observer_.interrupted && observer_.interrupted();
  if (due(state_.step, settings_.evaluate_every_steps, settings_.steps)) {
    history_.validation.push_back(
        {state_.step,
         validation_loss(engine_, data_, settings_.batch_sequences, settings_.evaluate_batches)});
    if (observer_.on_validation) observer_.on_validation(history_.validation.back());
  }
  const int64_t last = history_.interrupted ? state_.step : settings_.steps;
  if (due(state_.step, settings_.save_every_steps, last)) save();
}

void Run::save() {
  save_checkpoint(engine_, state_, settings_.output);
  last_good_ = latest_checkpoint(settings_.output);
  if (observer_.on_saved) observer_.on_saved(*last_good_);
}

void Run::go_back(const std::string& why) {
  for (bool back = false; !back;) {
    try {
      if (last_good_)
        state_ = restore_checkpoint(engine_, *last_good_);
      else
        engine_.send_weights(engine_.store()), state_ = begun_;
      back = true;
    } catch (const StateLost&) {  // one more
    }
  }
  const auto undone = [&](const auto& record) { return record.step > state_.step; };
  std::erase_if(history_.steps, undone);
  std::erase_if(history_.validation, undone);
  history_.interrupted = false;
  if (observer_.on_back) observer_.on_back(state_.step, why);
}

}  // namespace

TrainHistory train(Engine& engine, const Dataset& data, const TrainSettings& settings,
                   TrainerState state, const TrainObserver& observer) {
  return Run(engine, data, settings, state, observer).go();
}

}  // namespace tandem
