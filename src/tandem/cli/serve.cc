#include <chrono>
#include <ctime>
#include <nlohmann/json.hpp>
#include <thread>

#include "tandem/base/clock.h"
#include "tandem/cli/balance_options.h"
#include "tandem/cli/commands.h"
#include "tandem/cli/interrupt.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/program.h"
#include "tandem/serve/api.h"

namespace tandem::cli {
namespace {

struct ServeOptions {
  ModelOptions model;
  std::string name;
  HttpSettings http{.port = 8000};
  SchedulerSettings scheduler;
  BalanceOptions balance;
  ApiSettings api;
  double drain_seconds = 30;
};

std::string name_of(const ServeOptions& o) {
  if (!o.name.empty()) return o.name;
  const auto path = std::filesystem::absolute(o.model.model).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

StatusFacts facts_of(const ServeOptions& o, const ServedModel& model, const Engine& engine) {
  return {.model = model.name,
          .plan = o.model.plan,
          .ranks = engine.plan().ranks(),
          .layers = model.config.layers,
          .experts = model.config.experts,
          .context_tokens = model.context_tokens,
          .started_seconds = wall_seconds()};
}

void note(const std::string& line) { fmt::print(stderr, "{}\n", line); }

// What the server has done, for --json.
nlohmann::json summary(Scheduler& scheduler) {
  const Statistics::Counts counts = scheduler.statistics().counts();
  int64_t requests = 0, errors = 0;
  for (const auto& [key, count] : counts.requests) {
    requests += count;
    errors += key.second >= 400 ? count : 0;
  }
  return {{"requests", requests},
          {"errors", errors},
          {"prompt_tokens", counts.prompt_tokens},
          {"generated_tokens", counts.generated_tokens},
          {"preemptions", counts.preemptions},
          {"steps", counts.steps},
          {"step_seconds", counts.step_seconds}};
}

void run(ServeOptions& o) {
  InterruptWatch interrupt;
  const LoadedModel loaded = load_model(o.model, false);
  ServedModel model{.name = name_of(o),
                    .config = loaded.config(),
                    .text = ModelText(o.model.model, loaded.config()),
                    .chat = ChatTemplate::read(o.model.model),
                    .created_seconds = std::time(nullptr)};
  Engine engine(make_plan(o.model.plan, loaded.config()), *loaded.store, o.model.world());
  o.scheduler.keeps_spans = !o.model.trace_file.empty();
  HttpServer server(o.http);
  LiveBalance balance(o.balance, 0, note);
  nlohmann::json json;
  {
    Scheduler scheduler(engine, o.scheduler, [&](Engine& e) { balance.after_step(e); });
    model.context_tokens = scheduler.longest_tokens();
    const StatusFacts facts = facts_of(o, model, engine);
    Api api(scheduler, model, facts, o.api);
    api.add_to(server);
    server.start();
    note(fmt::format("{} at http://{}:{}", model.name, o.http.host, server.port()));
    while (!interrupt.requested()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    note("stopping: no new requests");
    if (!scheduler.drain(o.drain_seconds)) note("not all requests have ended in time");
    server.stop_serving();
    json = summary(scheduler);
    balance.add_to(json);
  }
  write_trace(o.model, engine);
  write_json(o.model.json_file, json);
}

}  // namespace

void add_serve(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("serve", "Answer requests over HTTP, as OpenAI's API does");
  const auto o = std::make_shared<ServeOptions>();
  o->model.fleet = session.fleet;
  o->model.add(*command);
  command->add_option("--host", o->http.host, "Address to listen on")->capture_default_str();
  command->add_option("--port", o->http.port, "0: any that is free")->capture_default_str();
  command->add_option("--api-key", o->api.key, "That clients have to bring (or TANDEM_API_KEY)")
      ->envname("TANDEM_API_KEY");
  command->add_option("--name", o->name, "What requests call the model (default: its directory)");
  command->add_option("--sequences", o->scheduler.sequences, "Sequences that run at once")
      ->capture_default_str();
  command->add_option("--kv-tokens", o->scheduler.kv_tokens,
                      "Tokens of K/V for all of them together (default: 2048 for each)");
  command
      ->add_option("--prefill-chunk", o->scheduler.prefill_chunk, "Tokens of prompts in one step")
      ->capture_default_str();
  o->balance.add(*command);
  command->add_option("--queue", o->scheduler.waiting, "Sequences that may wait for a place")
      ->capture_default_str();
  command->add_option("--connections", o->http.connections, "Open at once")->capture_default_str();
  command->add_option("--body-bytes", o->http.limits.request_bytes, "Of a request, at most")
      ->capture_default_str();
  command->add_option("--request-seconds", o->api.request_seconds, "For an answer, at most")
      ->capture_default_str();
  command
      ->add_option("--drain-seconds", o->drain_seconds,
                   "For what is running when the server is told to stop")
      ->capture_default_str();
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
