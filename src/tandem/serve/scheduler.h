// Runs an engine for everyone who asks: a thread of its own that leads the engine step by step, and
// a queue of bounded length that any thread may put requests into.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tandem/serve/engine_figures.h"
#include "tandem/serve/schedule.h"
#include "tandem/world/generate.h"

namespace tandem {

struct SchedulerSettings {
  int64_t sequences = 16;       // that run at once
  int64_t kv_tokens = 0;        // for all of them; 0: 2048 for each, or what the model has
  int64_t prefill_chunk = 512;  // tokens of prompts in one step
  int64_t waiting = 256;        // sequences in the queue
  bool keeps_spans = false;     // for a trace: figures() then has none
};

// Why a request was not taken.
enum class Refusal : uint8_t { queue_full, shutting_down, failed };

class Scheduler {
 public:
  // Plans the engine's memory; from then on the engine is the scheduler's alone. InputError where
  // the settings make no sense. `between_steps` may do something to the engine.
  Scheduler(Engine& engine, const SchedulerSettings& settings, BetweenSteps between_steps = {});
  ~Scheduler();  // what still runs is told shut_down

  // All or none; a refusal calls no listener. The queue has a place while fewer sequences wait than
  // the settings allow. Each must fit into longest_tokens().
  std::optional<Refusal> submit(std::vector<SequenceRequest> sequences);

  // Takes no more. True once all that was taken has ended, false if that takes longer.
  bool drain(double timeout_seconds);

  int64_t longest_tokens() const { return longest_tokens_; }  // of prompt and answer together
  std::optional<std::string> failure() const;                 // why the engine cannot go on
  Statistics& statistics() { return statistics_; }
  // The newest; they are made while somebody asks now and then, at most once a second.
  std::shared_ptr<const EngineFigures> figures();

 private:
  void run(const std::stop_token& stop);
  bool take_arrivals(const std::stop_token& stop);
  void step();
  void observe();
  void publish_load();
  void fail(const std::string& why);

  Engine& engine_;
  SchedulerSettings settings_;
  BetweenSteps between_steps_;
  Statistics statistics_;
  // Of the thread alone.
  Schedule schedule_;
  EngineObserver observer_;
  TimeWindow last_step_;
  double observed_seconds_ = 0;
  int64_t longest_tokens_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<SequenceRequest> arrivals_;
  int64_t in_schedule_ = 0, waiting_in_schedule_ = 0;
  bool draining_ = false;
  std::string failure_;
  double wanted_until_seconds_ = 0;  // figures
  std::shared_ptr<const EngineFigures> figures_ = std::make_shared<EngineFigures>();

  std::jthread thread_;  // last: it uses the rest
};

}  // namespace tandem
