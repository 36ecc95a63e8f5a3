#include "tandem/comm/endpoint.h"

#include <algorithm>
#include <limits>

#include "tandem/base/error.h"

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
  if (operation.status != Status::ok)
    throw WorldError("rank {}: {} message of layer {}, micro-batch {}{} from rank {}: {}", self(),
                     message_kind_name(tag.kind), tag.layer, tag.micro_batch,
                     tag.backward ? " (backward)" : "", operation.peer,
                     status_name(operation.status));
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

void Endpoint::run(std::span<Task<>> tasks) {
  for (Task<>& task : tasks) resume_later(task.handle());
  for (;;) {
    while (next_ready_ < ready_.size()) ready_[next_ready_++].resume();
    ready_.clear();
    next_ready_ = 0;
    bool all_done = true;
    for (Task<>& task : tasks) {
      all_done = all_done && task.done();
      if (task.done()) task.result();
    }
    if (all_done) return;
    wait();
  }
}

void Endpoint::wait() {
  const double start = now_seconds();
  Operation* operation = transport_.poll(std::numeric_limits<double>::max());
  const Tag& tag = operation->tag;
  recorder_.add({.name = "wait",
                 .lane = Lane::wait,
                 .kind = tag.kind,
                 .backward = tag.backward,
                 .layer = tag.layer,
                 .micro_batch = tag.micro_batch,
                 .peer = operation->peer,
                 .start_seconds = start,
                 .end_seconds = now_seconds()});
  resume_later(operation->waiter);
}

void Turnstile::pass() {
  ++next_;
  const auto turn = std::ranges::find(waiting_, next_, &Waiting::turn);
  if (turn == waiting_.end()) return;
  endpoint_->resume_later(turn->handle);
  waiting_.erase(turn);
}

}  // namespace tandem
