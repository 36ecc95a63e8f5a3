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

TrainHistory train(Engine& engine, const Dataset& data, const TrainSettings& settings,
                   TrainerState state, const TrainObserver& observer) {
  TrainHistory history;
  const auto now = [&] { return engine.world().controller().now_seconds(); };
  while (state.step < settings.steps) {
    const TrainingBatch batch = data.batch(state.step, settings.batch_sequences);
    TrainingStep hyper = settings.hyper;
    hyper.step = state.step + 1;
    hyper.seed = state.seed;
    hyper.learning_rate = static_cast<float>(settings.learning_rate.at(state.step));
    const double start = now();
    StepRecord record{.step = hyper.step, .learning_rate = hyper.learning_rate};
    record.result = engine.train(batch, hyper);
    record.tokens_per_second =
        static_cast<double>(batch.sequences * batch.sequence_tokens) / (now() - start);
    if (!settings.keep_spans) engine.clear_spans();
    if (!std::isfinite(record.result.loss) || !std::isfinite(record.result.gradient_norm))
      stop_for_nan(record, settings.output);
    ++state.step;
    history.steps.push_back(record);
    if (observer.on_step) observer.on_step(record);

    history.interrupted = observer.interrupted && observer.interrupted();
    const int64_t last = history.interrupted ? state.step : settings.steps;
    if (due(state.step, settings.evaluate_every_steps, settings.steps)) {
      history.validation.push_back(
          {state.step,
           validation_loss(engine, data, settings.batch_sequences, settings.evaluate_batches)});
      if (observer.on_validation) observer.on_validation(history.validation.back());
    }
    if (due(state.step, settings.save_every_steps, last)) {
      save_checkpoint(engine, state, settings.output);
      if (observer.on_saved) observer.on_saved(*latest_checkpoint(settings.output));
    }
    if (history.interrupted) break;
  }
  return history;
}

}  // namespace tandem
