#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/program.h"
#include "tandem/text/model_text.h"
#include "tandem/train/trainer.h"

namespace tandem::cli {
namespace {

struct EvaluateOptions {
  ModelOptions model;
  std::string data;
  int64_t batch = 8, sequence_tokens = 0;
  bool all = false;
};

// All sequences of the text, or the tenth of it that training holds out.
double loss_of(Engine& engine, const EvaluateOptions& o, int64_t& tokens) {
  const ModelConfig& model = engine.model();
  const int64_t length =
      o.sequence_tokens > 0 ? o.sequence_tokens : std::min<int64_t>(model.max_positions, 512);
  const ModelText model_text(o.model.model, model);
  const Dataset data = Dataset::read(
      o.data, [&](std::string_view text) { return model_text.encode(text, false); },
      {.sequence_tokens = length, .end_of_text = static_cast<int32_t>(model.eos_token)});
  double sum = 0, weight = 0;
  const auto add = [&](const TrainingBatch& batch) {
    double counted = 0;
    for (const float w : batch.weights) counted += w;
    sum += counted * engine.evaluate(batch).loss;
    weight += counted;
  };
  for (const TrainingBatch& batch : data.validation_batches(o.batch)) add(batch);
  if (o.all)  // an epoch's whole batches: no sequence twice
    for (int64_t step = 0; (step + 1) * o.batch <= data.train_sequences(); ++step)
      add(data.batch(step, o.batch));
  if (weight == 0) throw InputError("--data {}: too short to hold any of it out", o.data);
  tokens = static_cast<int64_t>(weight);
  return sum / weight;
}

void run(const EvaluateOptions& o) {
  if (o.batch < 1) throw InputError("--batch {}: must be at least 1", o.batch);
  const LoadedModel model = load_model(o.model, false);
  Engine engine(make_plan(o.model.plan, model.config()), *model.store, o.model.world());
  int64_t tokens = 0;
  const double loss = loss_of(engine, o, tokens);
  std::printf("loss %.5f  perplexity %.4f  tokens %lld\n", loss, std::exp(loss),
              static_cast<long long>(tokens));
  write_trace(o.model, engine);
  write_json(o.model.json_file,
             {{"loss", loss}, {"perplexity", std::exp(loss)}, {"tokens", tokens}});
}

}  // namespace

void add_evaluate(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("evaluate", "Loss and perplexity on the held-out text");
  const auto o = std::make_shared<EvaluateOptions>();
  o->model.fleet = session.fleet;
  o->model.add(*command);
  command->add_option("--data", o->data, "As for train; its held-out tenth is used")->required();
  command->add_option("--batch", o->batch, "Sequences a step")->capture_default_str();
  command->add_option("--sequence-length", o->sequence_tokens,
                      "Tokens a sequence (default: 512, or what the model has)");
  command->add_flag("--all", o->all, "The part to train on as well");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
