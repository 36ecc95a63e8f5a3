#include "tandem/serve/scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "tandem/base/clock.h"

namespace tandem {
namespace {

using std::chrono::duration;

Room plan_room(Engine& engine, const SchedulerSettings& settings) {
  if (settings.sequences < 1)
    throw InputError("--sequences {}: must be at least 1", settings.sequences);
  if (settings.prefill_chunk < 1)
    throw InputError("--prefill-chunk {}: must be at least 1", settings.prefill_chunk);
  if (settings.waiting < 1) throw InputError("--queue {}: must be at least 1", settings.waiting);
  if (settings.kv_tokens < 0)
    throw InputError("--kv-tokens {}: must be 1 or more", settings.kv_tokens);
  constexpr int64_t usual_tokens = 2048;
  const int64_t each = settings.kv_tokens > 0
                           ? (settings.kv_tokens + settings.sequences - 1) / settings.sequences
                           : usual_tokens;
  const int64_t tokens_per_slot = std::min(each, engine.model().max_positions);
  engine.plan_memory(settings.sequences, tokens_per_slot);
  // As KvCache has it: ranks hold blocks for all slots of a place, whichever of them needs them.
  const Plan& plan = engine.plan();
  return {plan.copies * plan.homes(), settings.sequences,
          slots_of_home(plan, settings.sequences) * kv_blocks(tokens_per_slot)};
}

}  // namespace

Scheduler::Scheduler(Engine& engine, const SchedulerSettings& settings, BetweenSteps between_steps)
    : engine_(engine),
      settings_(settings),
      between_steps_(std::move(between_steps)),
      schedule_(plan_room(engine, settings), settings.prefill_chunk, statistics_),
      longest_tokens_(std::min(schedule_.room().longest_tokens(), engine.model().max_positions)) {
  publish_load();
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Scheduler::~Scheduler() {
  thread_.request_stop();
  thread_.join();
}

std::optional<Refusal> Scheduler::submit(std::vector<SequenceRequest> sequences) {
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) return Refusal::failed;
  if (draining_) return Refusal::shutting_down;
  if (std::ssize(arrivals_) + waiting_in_schedule_ >= settings_.waiting) return Refusal::queue_full;
  std::ranges::move(sequences, std::back_inserter(arrivals_));
  changed_.notify_all();
  return {};
}

bool Scheduler::drain(double timeout_seconds) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  return changed_.wait_for(lock, duration<double>(timeout_seconds),
                           [&] { return arrivals_.empty() && in_schedule_ == 0; });
}

std::optional<std::string> Scheduler::failure() const {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) return {};
  return failure_;
}

std::shared_ptr<const EngineFigures> Scheduler::figures() {
  constexpr double patience_seconds = 5;
  const std::lock_guard lock(mutex_);
  wanted_until_seconds_ = wall_seconds() + patience_seconds;
  return figures_;
}

void Scheduler::run(const std::stop_token& stop) {
  while (take_arrivals(stop)) {
    try {
      step();
      observe();
    } catch (const std::exception& error) {  // WorldError, or memory that is used up
      fail(error.what());
    }
    publish_load();
  }
  schedule_.finish_all(Finish::shut_down);
  publish_load();
}

// Waits for something to do, if there is nothing; false once the scheduler is to end.
bool Scheduler::take_arrivals(const std::stop_token& stop) {
  constexpr duration<double> look_again(1);
  std::unique_lock lock(mutex_);
  if (in_schedule_ == 0)
    changed_.wait_for(lock, stop, look_again, [&] { return !arrivals_.empty(); });
  const double now = wall_seconds();
  for (SequenceRequest& request : arrivals_) schedule_.add(std::move(request), now);
  arrivals_.clear();
  in_schedule_ = schedule_.waiting() + schedule_.running();
  return !stop.stop_requested();
}

void Scheduler::step() {
  if (!failure_.empty()) return schedule_.finish_all(Finish::failed);
  const Schedule::Step& next = schedule_.next_step(wall_seconds());
  if (!next.released.empty()) engine_.release(next.released);
  if (next.work.empty()) return;
  Transport& clock = engine_.world().controller();
  last_step_.begin_seconds = clock.now_seconds();
  const Sampled sampled = engine_.infer(next.work, next.wants_logits);
  last_step_.end_seconds = clock.now_seconds();
  statistics_.step(last_step_.seconds());
  schedule_.take(sampled, wall_seconds());
  if (between_steps_) between_steps_(engine_);
}

void Scheduler::observe() {
  constexpr double every_seconds = 1;
  const double now = wall_seconds();
  if (settings_.keeps_spans || now < observed_seconds_ + every_seconds) return;
  {
    const std::lock_guard lock(mutex_);
    if (now > wanted_until_seconds_ || !failure_.empty()) return;
  }
  observed_seconds_ = now;
  auto figures = std::make_shared<EngineFigures>(observer_.look(engine_, last_step_));
  engine_.clear_spans();
  const std::lock_guard lock(mutex_);
  figures_ = std::move(figures);
}

void Scheduler::publish_load() {
  const Room& room = schedule_.room();
  statistics_.set({.waiting = schedule_.waiting(),
                   .running = schedule_.running(),
                   .kv_used_tokens = room.used_tokens(),
                   .kv_tokens = room.all_tokens(),
                   .recoveries = engine_.recoveries()});
  const std::lock_guard lock(mutex_);
  waiting_in_schedule_ = schedule_.waiting();
  in_schedule_ = schedule_.waiting() + schedule_.running();
  changed_.notify_all();
}

// The ranks are out of step: nothing can be run any more.
void Scheduler::fail(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    failure_ = why;
  }
  schedule_.finish_all(Finish::failed);
}

}  // namespace tandem
