#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/work_options.h"
#include "tandem/plan/plan_file.h"
#include "tandem/planner/search.h"
#include "tandem/planner/sensitivity.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct PlanOptions {
  WorkOptions work;
  std::string output;
  double tpot_limit_seconds = 0, ttft_limit_seconds = 0;
  int64_t largest_batch = 0;
  bool why = false;
  int shown = 12;
  SearchSettings settings;
};

double tokens_per_second(const Candidate& c, const Workload& work) {
  return static_cast<double>(work.tokens()) / c.seconds();
}

nlohmann::json to_json(const Candidate& c, const WorkOptions::Read& read) {
  const Workload& work = read.work;
  nlohmann::json json{{"plan", c.plan},
                      {"kind", c.kind},
                      {"simulated", c.simulated},
                      {step_key(work), c.seconds()},
                      {"tokens_per_second", tokens_per_second(c, work)},
                      {"floor_seconds", c.estimate.floor_seconds},
                      {"bound_by", c.estimate.bound_by},
                      {"memory_bytes_per_rank", c.memory_bytes()}};
  if (c.simulated) json.update(footprint_json(c.prediction, read));
  return json;
}

void print(const SearchResult& result, const WorkOptions::Read& read, int shown) {
  const Workload& work = read.work;
  Table table({{"plan", Align::left},
               {work.decodes() ? "time/token" : "step"},
               {"tokens/s"},
               {"floor"},
               {"bound by", Align::left},
               {"memory a rank"},
               {"a token costs", Align::left}});
  for (const Candidate& c : result.ranked) {
    if (!c.simulated || std::ssize(table.rows()) >= shown) break;
    table.add_row({c.plan, format_seconds(c.seconds()), format_number(tokens_per_second(c, work)),
                   format_seconds(c.estimate.floor_seconds), c.estimate.bound_by,
                   format_bytes(c.memory_bytes()), footprint_text(c.prediction, read)});
  }
  fmt::print("{}", table.text());
  // The best of every kind, where it is not among those above.
  for (const char* kind : {"single", "tp", "pp", "tp-pp", "ep", "ma"}) {
    const auto best = std::ranges::find_if(
        result.ranked, [&](const Candidate& c) { return c.simulated && c.kind == kind; });
    if (best != result.ranked.end() && best - result.ranked.begin() >= shown)
      fmt::print("best {}: {}, {}\n", kind, best->plan, format_seconds(best->seconds()));
  }
  fmt::print(stderr, "{} candidates, {} too large for memory{}{}\n", result.candidates,
             result.too_large, result.too_large > 0 ? "; of these " : "",
             result.too_large > 0 ? result.smallest_too_large : "");
}

// Why the best plans take as long as they do, what one more device would bring, and what it would
// take for the strategy that loses to win.
class Reasons {
 public:
  Reasons(const WorkOptions::Read& read, const SearchSettings& settings, const SearchResult& result)
      : read_(read),
        settings_(settings),
        best_(result.ranked.front()),
        separated_(first(result, true)),
        colocated_(first(result, false)) {}

  nlohmann::json tell() const {
    nlohmann::json json;
    json["bound_by"] = bounds();
    json["next_device"] = next_devices();
    if (separated_ && colocated_) json["separation"] = verdict();
    return json;
  }

 private:
  static const Candidate* first(const SearchResult& result, bool separated) {
    const auto found = std::ranges::find_if(result.ranked, [&](const Candidate& c) {
      return c.simulated && (c.kind == "ma") == separated;
    });
    return found == result.ranked.end() ? nullptr : &*found;
  }

  SimulationSettings simulation() const {
    return {
        .dtype = settings_.dtype, .stage_layers = settings_.stage_layers, .seed = settings_.seed};
  }

  // If a resource were twice as fast: the best plan of both kinds.
  nlohmann::json bounds() const {
    Table table({{"twice as fast", Align::left}, {"plan", Align::left}, {"step shorter by"}});
    auto json = nlohmann::json::array();
    for (const Candidate* c : {separated_, colocated_}) {
      if (!c) continue;
      for (const Sensitivity& s :
           sensitivities(read_.model, plan_from_shorthand(c->plan, read_.model), read_.cluster,
                         read_.work, simulation())) {
        table.add_row({s.resource, c->plan, format_share(s.saved_share)});
        json.push_back(
            {{"plan", c->plan}, {"resource", s.resource}, {"saved_share", s.saved_share}});
      }
    }
    fmt::print("\n{}", table.text());
    return json;
  }

  // The best plan with one more device of each type; today's, where all others are worse.
  nlohmann::json next_devices() const {
    auto json = nlohmann::json::array();
    for (int type = 0; type < std::ssize(read_.cluster.types); ++type) {
      SearchSettings settings = settings_;
      settings.limit_seconds = 0;
      const SearchResult more =
          search(read_.model, with_one_more(read_.cluster, type), read_.work, settings);
      const Candidate& next = more.ranked.front();
      const double saved = std::max(0.0, 1 - next.seconds() / best_.seconds());
      const std::string& name = read_.cluster.types[static_cast<size_t>(type)].name;
      fmt::print("{}one more {}: {}\n", type == 0 ? "\n" : "", name,
                 saved > 0 ? fmt::format("{}, step shorter by {}", next.plan, format_share(saved))
                           : "brings nothing");
      json.push_back({{"device", name}, {"plan", next.plan}, {"saved_share", saved}});
    }
    return json;
  }

  double advantage(const Cluster& cluster, const Workload& work) const {
    ModelConfig model = read_.model;
    model.max_positions = std::max(model.max_positions, work.longest_context() + 1);
    const auto seconds = [&](const Candidate* c) {
      return simulate(model, plan_from_shorthand(c->plan, model), cluster, work, simulation())
          .step_seconds;
    };
    return seconds(colocated_) / seconds(separated_);
  }

  // From which factor of a resource, of the batch or of the context on the verdict changes.
  nlohmann::json verdict() const {
    const double now = colocated_->seconds() / separated_->seconds();
    fmt::print("\nseparation {}: {} takes {:.2f} times as long as {}\n", now > 1 ? "wins" : "loses",
               separated_->plan, 1 / now, colocated_->plan);
    nlohmann::json json{{"separated_plan", separated_->plan},
                        {"colocated_plan", colocated_->plan},
                        {"times_as_fast", now},
                        {"changes", nlohmann::json::array()}};
    const auto look = [&](const std::string& name, const auto& advantage_at) {
      constexpr double most = 16;
      for (double factor = 2; factor <= most; factor *= 2)
        if (const double then = advantage_at(factor); (then > 1) != (now > 1)) {
          fmt::print("{} x on {}: it {} ({:.2f} times as fast)\n", factor, name,
                     now > 1 ? "loses" : "wins", then);
          json["changes"].push_back({{"of", name}, {"factor", factor}, {"times_as_fast", then}});
          return;
        }
      fmt::print("up to {} x on {}: that stays so\n", most, name);
    };
    for (const Resource& resource : resources(read_.cluster))
      look(resource.text(read_.cluster), [&](double factor) {
        return advantage(scaled(read_.cluster, resource, factor), read_.work);
      });
    const auto work_with = [&](int64_t Workload::*size) {
      return [this, size](double factor) {
        Workload work = read_.work;
        work.*size = std::llround(static_cast<double>(work.*size) * factor);
        return advantage(read_.cluster, work);
      };
    };
    look("the batch", work_with(&Workload::sequences));
    look("the context", work_with(&Workload::context_tokens));
    return json;
  }

  const WorkOptions::Read& read_;
  const SearchSettings& settings_;
  const Candidate& best_;
  const Candidate *separated_, *colocated_;
};

void set_limit(PlanOptions& o, WorkKind kind) {
  if (o.tpot_limit_seconds > 0 && kind != WorkKind::decode && kind != WorkKind::mixed)
    throw InputError("--tpot-limit: only decoding has a time per output token");
  if (o.ttft_limit_seconds > 0 && kind != WorkKind::prefill)
    throw InputError("--ttft-limit: only prefill has a time to first token");
  o.settings.limit_seconds = std::max(o.tpot_limit_seconds, o.ttft_limit_seconds);
}

SearchResult searched(const WorkOptions::Read& read, const SearchSettings& settings) {
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return search(read.model, read.cluster, read.work, settings, [&](int done, int all) {
    if (terminal) fmt::print(stderr, "\rsimulating {}/{}{}", done, all, done == all ? "\n" : "");
  });
}

// Goes on to twice the batch, and so on, while something fits and keeps the limit: `read` becomes
// the workload with the most tokens a second, whose plans are returned.
SearchResult best_batch(WorkOptions::Read& read, const PlanOptions& o, nlohmann::json& batches) {
  SearchResult best = searched(read, o.settings);
  Table table({{"batch"}, {"step"}, {"tokens/s"}, {"plan", Align::left}});
  // Its speed.
  const auto add = [&](const SearchResult& result, const Workload& work) {
    const Candidate& first = result.ranked.front();
    const double speed = tokens_per_second(first, work);
    table.add_row({fmt::format("{}", work.sequences), format_seconds(first.seconds()),
                   format_number(speed), first.plan});
    batches.push_back({{"batch", work.sequences},
                       {step_key(work), first.seconds()},
                       {"tokens_per_second", speed},
                       {"plan", first.plan}});
    return speed;
  };
  double most = add(best, read.work);
  WorkOptions::Read next = read;
  while ((next.work.sequences *= 2) <= o.largest_batch) try {
      SearchResult result = searched(next, o.settings);
      const double speed = add(result, next.work);
      if (speed <= most) continue;
      most = speed;
      best = std::move(result);
      read = next;
    } catch (const InputError&) {  // too large, or too slow
      break;
    }
  if (o.largest_batch > 0) fmt::print("{}\n", table.text());
  return best;
}

void run(PlanOptions& o) {
  WorkOptions::Read read = o.work.read();
  set_limit(o, read.work.kind);
  if (o.largest_batch != 0 && o.largest_batch < read.work.sequences)
    throw InputError("--largest-batch {}: --batch is {}", o.largest_batch, read.work.sequences);
  o.settings.dtype = read.dtype;
  o.settings.seed = o.work.seed;
  auto batches = nlohmann::json::array();
  const SearchResult result = best_batch(read, o, batches);
  fmt::print("{}\n\n", work_text(read.work));
  print(result, read, o.shown);
  nlohmann::json json{{"workload", work_json(read.work, result.ranked.front().seconds())},
                      {"candidates", result.candidates},
                      {"too_large", result.too_large},
                      {"batches", batches}};
  json["plans"] = nlohmann::json::array();
  for (const Candidate& c : result.ranked) json["plans"].push_back(to_json(c, read));
  if (o.why) json["why"] = Reasons(read, o.settings, result).tell();
  write_json(o.work.json_file, json);
  if (!o.output.empty())
    write_file(o.output, plan_yaml(plan_from_shorthand(result.ranked.front().plan, read.model)));
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Find the best plan for a workload on a cluster");
  const auto o = std::make_shared<PlanOptions>();
  o->work.add(*command);
  command->add_option("--tpot-limit", o->tpot_limit_seconds,
                      "Decoding: seconds a step may take; slower plans are left out");
  command->add_option("--ttft-limit", o->ttft_limit_seconds,
                      "Prefill: seconds until the last prompt's first token");
  command->add_option("--largest-batch", o->largest_batch,
                      "--batch is doubled up to this, as long as something fits and keeps the "
                      "limit; the batch with the most tokens a second is taken");
  command->add_flag("--why", o->why,
                    "What the best plans are bound by, what one more device would bring, and what "
                    "it takes for separation to win or lose");
  command->add_option("--simulate", o->settings.simulated,
                      "Candidates that the simulator settles (default: by the number of devices)");
  command->add_option("--show", o->shown, "Lines of the table")->capture_default_str();
  command->add_option("--output", o->output, "Write the best plan here (YAML)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
