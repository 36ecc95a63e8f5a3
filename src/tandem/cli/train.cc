#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tandem/cli/balance_options.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/interrupt.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/program.h"
#include "tandem/text/model_text.h"
#include "tandem/train/progress.h"
#include "tandem/train/trainer.h"

namespace tandem::cli {
namespace {

struct TrainOptions {
  ModelOptions model;
  std::string data, packing = "packed";
  TrainSettings settings;
  BalanceOptions balance;
  int64_t warmup_steps = -1;
  bool resume = false, checkpoint_activations = false, replicate_optimizer = false;
};

void add_options(CLI::App& command, TrainOptions& o) {
  o.model.add(command);
  o.settings.learning_rate.peak = 3e-4;
  command.add_option("--data", o.data, "Text, JSON lines with \"text\", or a folder; also gzipped")
      ->required();
  command.add_option("--output", o.settings.output, "Directory of the run")->required();
  command.add_option("--steps", o.settings.steps, "Optimizer steps in all")->required();
  command.add_option("--batch", o.settings.batch_sequences, "Sequences a step")->required();
  command.add_option("--sequence-length", o.settings.sequence_tokens, "Tokens a sequence")
      ->required();
  command.add_flag("--resume", o.resume, "Go on from the newest checkpoint in --output");
  command.add_option("--learning-rate", o.settings.learning_rate.peak)->capture_default_str();
  command.add_option("--warmup-steps", o.warmup_steps, "Steps of linear warm-up (default: 10 %)");
  command
      .add_option("--final-learning-rate", o.settings.learning_rate.min_ratio,
                  "Where the cosine ends, as a share of --learning-rate")
      ->capture_default_str();
  command.add_option("--weight-decay", o.settings.hyper.weight_decay)->capture_default_str();
  command.add_option("--clip", o.settings.hyper.clip_norm, "Largest norm of the gradient; 0: any")
      ->capture_default_str();
  command
      .add_option("--accumulate", o.settings.hyper.groups,
                  "Groups of micro-batches, one after the other, that make a step")
      ->capture_default_str();
  command.add_option("--packing", o.packing, "packed or padded documents")->capture_default_str();
  command.add_option("--save-every", o.settings.save_every_steps, "Steps between checkpoints")
      ->capture_default_str();
  command
      .add_option("--evaluate-every", o.settings.evaluate_every_steps,
                  "Steps between validations on the held-out text")
      ->capture_default_str();
  command.add_flag("--checkpoint-activations", o.checkpoint_activations,
                   "Compute activations again in the backward pass instead of keeping them");
  command.add_flag("--no-shard-optimizer", o.replicate_optimizer,
                   "Keep the optimizer state of shared parameters on one rank alone");
  command
      .add_option("--compress-gradients", o.settings.hyper.coding,
                  "On their way between ranks: plain, top-k (a tenth of them), int8 or top-k-int8")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, GradientCoding>{{"plain", GradientCoding::plain},
                                                {"top-k", GradientCoding::top_k},
                                                {"int8", GradientCoding::int8},
                                                {"top-k-int8", GradientCoding::top_k_int8}}));
  o.balance.add(command);
}

void check(const TrainOptions& o) {
  const auto positive = [](const char* name, int64_t value) {
    if (value < 1) throw InputError("{} {}: must be at least 1", name, value);
  };
  positive("--steps", o.settings.steps);
  positive("--batch", o.settings.batch_sequences);
  positive("--sequence-length", o.settings.sequence_tokens);
  positive("--accumulate", o.settings.hyper.groups);
  if (!o.resume && latest_checkpoint(o.settings.output))
    throw InputError("--output {}: holds a run already (--resume goes on with it)",
                     o.settings.output.string());
  if (o.resume && !latest_checkpoint(o.settings.output))
    throw InputError("--resume: {} holds no checkpoint", o.settings.output.string());
}

Dataset read_data(const TrainOptions& o, const ModelConfig& model, uint64_t seed) {
  const ModelText model_text(o.model.model, model);
  return Dataset::read(o.data,
                       [&](std::string_view text) { return model_text.encode(text, false); },
                       {.sequence_tokens = o.settings.sequence_tokens,
                        .packing = parse_packing(o.packing),
                        .end_of_text = static_cast<int32_t>(model.eos_token),
                        .seed = seed});
}

nlohmann::json history_json(const TrainHistory& history, const TrainOptions& o) {
  nlohmann::json json{{"model", o.model.model},
                      {"plan", o.model.plan},
                      {"steps", nlohmann::json::array()},
                      {"validation", nlohmann::json::array()},
                      {"interrupted", history.interrupted}};
  for (const StepRecord& s : history.steps)
    json["steps"].push_back({{"step", s.step},
                             {"loss", s.result.loss},
                             {"balance_loss", s.result.balance_loss},
                             {"z_loss", s.result.z_loss},
                             {"gradient_norm", s.result.gradient_norm},
                             {"learning_rate", s.learning_rate},
                             {"tokens_per_second", s.tokens_per_second}});
  for (const ValidationRecord& v : history.validation)
    json["validation"].push_back(
        {{"step", v.step}, {"loss", v.loss}, {"perplexity", v.perplexity()}});
  return json;
}

void run(TrainOptions& o) {
  check(o);
  InterruptWatch interrupt;
  if (o.resume) o.model.model = latest_checkpoint(o.settings.output)->string();
  TrainerState state{.seed = o.model.seed};
  if (o.resume) {
    o.model.random_weights.clear();
    state = load_trainer_state(o.model.model);
  }
  const LoadedModel model = load_model(o.model, true);
  const Dataset data = read_data(o, model.config(), state.seed);
  if (!o.resume) take_tokenizer(o.model.model, o.settings.output);
  o.settings.learning_rate.total_steps = o.settings.steps;
  o.settings.learning_rate.warmup_steps =
      o.warmup_steps >= 0 ? o.warmup_steps : o.settings.steps / 10;
  o.settings.learning_rate.validate();
  o.settings.hyper.checkpoint_activations = o.checkpoint_activations;
  o.settings.keep_spans = !o.model.trace_file.empty();
  Engine engine(make_plan(o.model.plan, model.config()), *model.store,
                o.model.world(true, !o.replicate_optimizer));
  if (o.resume) load_optimizer(engine, o.model.model);

  fmt::print(stderr, "{} tokens to train on, {} held out; {} ranks\n", data.train_tokens(),
             data.validation_tokens(), engine.plan().ranks());
  Progress progress(o.settings.steps);
  LiveBalance balance(o.balance, state.seed, [&](const std::string& line) { progress.note(line); });
  const int64_t step_tokens = o.settings.batch_sequences * o.settings.sequence_tokens;
  const TrainHistory history = train(
      engine, data, o.settings, state,
      {.on_step =
           [&](const StepRecord& s) {
             progress.step(s.step - 1, s.result.loss, step_tokens);
             balance.after_step(engine);
           },
       .on_validation =
           [&](const ValidationRecord& v) {
             progress.note(fmt::format("step {}: held-out loss {:.4f}, perplexity {:.3f}", v.step,
                                       v.loss, v.perplexity()));
           },
       .on_saved =
           [&](const std::filesystem::path& path) { progress.note("saved " + path.string()); },
       .on_back =
           [&](int64_t step, const std::string& why) {
             progress.note(fmt::format("{}; going on after step {}", why, step));
           },
       .interrupted = [&] { return interrupt.requested(); }});
  progress.finish();
  write_trace(o.model, engine);
  nlohmann::json json = history_json(history, o);
  balance.add_to(json);
  write_json(o.model.json_file, json);
}

}  // namespace

void add_train(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("train", "Train a model on text");
  const auto options = std::make_shared<TrainOptions>();
  options->model.fleet = session.fleet;
  add_options(*command, *options);
  command->callback([options] { run(*options); });
}

}  // namespace tandem::cli
