#include "tandem/world/generate.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tandem/base/number_list.h"
#include "tandem/cli/balance_options.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/program.h"
#include "tandem/planner/routing.h"
#include "tandem/text/model_text.h"
#include "tandem/text/stop_filter.h"

namespace tandem::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  std::string prompt, prompt_tokens, routing_file;
  std::vector<std::string> stop;
  GenerateSettings settings;
  BalanceOptions balance;
};

std::vector<int32_t> parse_tokens(const std::string& list) {
  const auto tokens = parse_numbers<int32_t>(list);
  if (!tokens) throw InputError("--prompt-tokens {}: expected numbers and commas", list);
  return *tokens;
}

std::vector<int32_t> prompt_of(const GenerateOptions& o, const ModelText& text,
                               const ModelConfig& model) {
  if (o.prompt.empty() == o.prompt_tokens.empty())
    throw InputError("give either --prompt or --prompt-tokens");
  std::vector<int32_t> tokens =
      o.prompt.empty() ? parse_tokens(o.prompt_tokens) : text.encode(o.prompt, true);
  for (const int32_t token : tokens)
    if (token < 0 || token >= model.vocab_size)
      throw InputError("token {} of the prompt: the vocabulary has {} entries", token,
                       model.vocab_size);
  const int64_t length = static_cast<int64_t>(tokens.size()) + o.settings.new_tokens;
  if (length > model.max_positions)
    throw InputError("{} tokens of prompt and --new-tokens {}: the model has {} positions",
                     tokens.size(), o.settings.new_tokens, model.max_positions);
  return tokens;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void check(const GenerateOptions& o) {
  const Sampling& s = o.settings.sampling;
  if (o.settings.new_tokens < 1)
    throw InputError("--new-tokens {}: must be at least 1", o.settings.new_tokens);
  if (o.settings.prefill_chunk < 1)
    throw InputError("--prefill-chunk {}: must be at least 1", o.settings.prefill_chunk);
  if (!(s.temperature >= 0)) throw InputError("--temperature {}: must be 0 or more", s.temperature);
  if (s.top_k < 0) throw InputError("--top-k {}: must be 0 (all) or more", s.top_k);
  if (!(s.top_p > 0 && s.top_p <= 1)) throw InputError("--top-p {}: must be in (0, 1]", s.top_p);
  for (const std::string& stop : o.stop)
    if (stop.empty()) throw InputError("--stop: an empty text");
}

void run(GenerateOptions& o) {
  check(o);
  const LoadedModel model = load_model(o.model, false);
  const ModelText text(o.model.model, model.config());
  const std::vector<int32_t> prompt = prompt_of(o, text, model.config());
  Engine engine(make_plan(o.model.plan, model.config()), *model.store, o.model.world());
  if (!o.routing_file.empty()) engine.record_routing();
  o.settings.sampling.seed = o.model.seed;
  o.settings.end_token = static_cast<int32_t>(model.config().eos_token);
  StopFilter filter(o.stop);
  std::string printed;
  const auto add = [&](const std::string& more) {
    print(more);
    printed += more;
  };
  ModelText::Stream stream(text);
  LiveBalance balance(o.balance, o.model.seed,
                      [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
  std::vector<int32_t> drawn;
  const GenerateTimes times = generate(
      engine, {&prompt, 1}, o.settings,
      [&](int32_t, int32_t token, const float*) {
        drawn.push_back(token);
        if (token == o.settings.end_token) return false;
        add(filter.push(stream.push(token)));
        return !filter.stopped();
      },
      false, [&](Engine& e) { balance.after_step(e); });
  add(filter.push(stream.finish()));
  add(filter.finish());
  const double decode_rate = times.decode_seconds > 0
                                 ? static_cast<double>(times.decode_tokens) / times.decode_seconds
                                 : 0;
  fmt::print(stderr, "\n{} tokens of prompt in {:.3f} s, {} tokens at {:.1f} tokens/s\n",
             times.prefill_tokens, times.prefill_seconds, drawn.size(), decode_rate);
  write_trace(o.model, engine);
  if (!o.routing_file.empty())
    write_file(o.routing_file, routing_csv(engine.routing(), model.config().top_k));
  nlohmann::json json{{"text", printed},
                      {"tokens", drawn},
                      {"prompt_tokens", times.prefill_tokens},
                      {"prefill_seconds", times.prefill_seconds},
                      {"decode_seconds", times.decode_seconds},
                      {"tokens_per_second", decode_rate}};
  balance.add_to(json);
  write_json(o.model.json_file, json);
}

}  // namespace

void add_generate(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("generate", "Go on with a prompt; the text goes to stdout");
  const auto o = std::make_shared<GenerateOptions>();
  o->model.fleet = session.fleet;
  o->model.add(*command);
  command->add_option("--prompt", o->prompt, "Text to go on with");
  command->add_option("--prompt-tokens", o->prompt_tokens, "The same as numbers: 1,2,3");
  command->add_option("--new-tokens", o->settings.new_tokens, "At most so many")->required();
  Sampling& s = o->settings.sampling;
  command->add_option("--temperature", s.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command->add_option("--top-k", s.top_k, "Draw from the k likeliest; 0: all")
      ->capture_default_str();
  command->add_option("--top-p", s.top_p, "Draw from the fewest that reach this probability")
      ->capture_default_str();
  command->add_option("--stop", o->stop, "End before this text; may be given several times");
  command
      ->add_option("--prefill-chunk", o->settings.prefill_chunk, "Tokens of the prompt in one step")
      ->capture_default_str();
  command->add_option("--record-routing", o->routing_file,
                      "Write the experts of every token here, for `simulate --routing`");
  o->balance.add(*command);
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
