#include "tandem/comm/endpoint.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

namespace tandem {

Endpoint::Endpoint(Transport& transport, Recorder& recorder, double timeout_seconds)
    : transport_(transport), recorder_(recorder), timeout_seconds_(timeout_seconds) {
  ready_.reserve(64);
}

void Endpoint::send(int peer, const Tag& tag, Message message) {
  Operation operation{.peer = peer, .tag = tag, .message = std::move(message)};
  const bool complete = transport_.send(operation);
  TANDEM_CHECK(complete, "a transport that queues sends");
}

Message Endpoint::finish(Operation& operation) {
  const Tag& tag = operation.tag;
  if (operation.status == Status::cancelled) throw EpochOver("rank {}: a new epoch", self());
  if (operation.status != Status::ok) {
    const std::string what = fmt::format(
        "rank {}: {} message of layer {}, micro-batch {}{} from rank {}: {}", self(),
        message_kind_name(tag.kind), tag.layer, tag.micro_batch, tag.backward ? " (backward)" : "",
        operation.peer, status_name(operation.status));
    if (operation.status == Status::peer_lost) throw PeerLost(what);
    throw WorldError(what);
  }
  if (operation.peer != self())
    recorder_.add({.name = "message",
                   .lane = Lane::message,
                   .kind = tag.kind,
                   .backward = tag.backward,
                   .layer = tag.layer,
                   .micro_batch = tag.micro_batch,
                   .peer = operation.peer,
                   .start_seconds = operation.message.sent_seconds,
                   .end_seconds = now_seconds(),
                   .cost = {.bytes = static_cast<double>(operation.message.bytes())}});
  return std::move(operation.message);
}

// Who waits for several tasks, and for how many still.
struct Endpoint::Join {
  Endpoint& endpoint;
  size_t left = 0;
  std::coroutine_handle<> waiter;
  std::exception_ptr failure;

  bool await_ready() const { return left == 0 || failure; }
  void await_suspend(std::coroutine_handle<> caller) { waiter = caller; }
  void await_resume() const {
    if (failure) std::rethrow_exception(failure);
  }
  void wake() {
    if (waiter) endpoint.resume_later(std::exchange(waiter, {}));
  }
  // What is ready beside the failed one is about to be destroyed: it is not resumed any more.
  void fail(std::exception_ptr reason) {
    failure = std::move(reason);
    endpoint.ready_.clear();
    wake();
  }
};

Task<> Endpoint::watch(Task<>& task, Join& join) {
  try {
    co_await std::move(task);
  } catch (...) {
    join.fail(std::current_exception());
    co_return;
  }
  if (--join.left == 0) join.wake();
}

Task<> Endpoint::together(std::span<Task<>> tasks, std::span<const int16_t> micro_batches) {
  Join join{*this, tasks.size()};
  std::pmr::vector<Task<>> watched(&memory_);
  watched.reserve(tasks.size());
  for (Task<>& task : tasks) watched.push_back(watch(task, join));
  for (size_t i = 0; i < watched.size(); ++i)
    resume_later(watched[i].handle(), micro_batches.empty() ? int16_t{-1} : micro_batches[i]);
  co_await join;
}

void Endpoint::run(std::span<Task<>> tasks) {
  Task<> all = together(tasks);
  start(all.handle());
  constexpr double past = std::numeric_limits<double>::lowest();
  while (!all.done()) {
    if (ready_.empty()) {
      const double since = now_seconds();
      completed(*transport_.poll(std::numeric_limits<double>::max()), since);
    }
    while (Operation* operation = transport_.poll(past)) completed(*operation, now_seconds());
    resume_one();
  }
  all.result();
}

bool Endpoint::resume_one() {
  if (ready_.empty()) return false;
  const auto next = std::ranges::min_element(ready_, {}, &Ready::micro_batch);
  const std::coroutine_handle<> handle = next->handle;
  ready_.erase(next);
  handle.resume();
  return true;
}

void Endpoint::completed(Operation& operation, double since_seconds) {
  const Tag& tag = operation.tag;
  const double now = now_seconds();
  if (since_seconds < now)
    recorder_.add({.name = "wait",
                   .lane = Lane::wait,
                   .kind = tag.kind,
                   .backward = tag.backward,
                   .layer = tag.layer,
                   .micro_batch = tag.micro_batch,
                   .peer = operation.peer,
                   .start_seconds = since_seconds,
                   .end_seconds = now});
  resume_later(operation.waiter, tag.micro_batch);
}

void Turnstile::pass() {
  ++next_;
  const auto turn = std::ranges::find(waiting_, next_, &Waiting::turn);
  if (turn == waiting_.end()) return;
  endpoint_->resume_later(turn->handle, turn->turn);
  waiting_.erase(turn);
}

}  // namespace tandem
