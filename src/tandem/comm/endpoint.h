// A rank's seat in its world: runs the rank's coroutines, sends and receives for them, and records
// what is sent and how long the rank waits. Used by the rank's thread alone.
#pragma once

#include <limits>
#include <memory_resource>
#include <span>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/task.h"
#include "tandem/comm/transport.h"
#include "tandem/trace/span.h"

namespace tandem {

// Whom a rank waits for is lost; a WorldError of its own since it can be got over.
class PeerLost : public WorldError {
 public:
  using WorldError::WorldError;
};

// A new epoch of the membership has begun: what the rank was doing is given up.
class EpochOver : public WorldError {
 public:
  using WorldError::WorldError;
};

class Endpoint {
 public:
  // timeout_seconds: how long a receive may take before it fails.
  Endpoint(Transport& transport, Recorder& recorder, double timeout_seconds);

  int self() const { return transport_.self(); }
  double now_seconds() const { return transport_.now_seconds(); }
  // Memory for coroutine frames and the small arrays of a step; kept and reused.
  std::pmr::memory_resource& frames() { return memory_; }
  Recorder& recorder() { return recorder_; }

  // Returns at once; the tensors are held until they have been sent. A lost receiver is not an
  // error here: whoever waits for the answer learns of it.
  void send(int peer, const Tag& tag, Message message);

  // co_await endpoint.receive(peer, tag) gives the Message. Throws WorldError naming rank, layer,
  // micro-batch and peer when the time is up, or PeerLost; EpochOver for what that says. A
  // coroutine that is destroyed while it waits withdraws its operation.
  class Receive {
   public:
    Receive(Endpoint& endpoint, int peer, const Tag& tag, double deadline_seconds)
        : endpoint_(endpoint),
          operation_{.peer = peer, .tag = tag, .deadline_seconds = deadline_seconds} {}
    Receive(const Receive&) = delete;
    Receive& operator=(const Receive&) = delete;
    ~Receive() {
      if (under_way_) endpoint_.transport_.cancel(operation_);
    }

    bool await_ready() {
      under_way_ = !endpoint_.transport_.receive(operation_);
      return !under_way_;
    }
    void await_suspend(std::coroutine_handle<> caller) { operation_.waiter = caller; }
    Message await_resume() {
      under_way_ = false;
      return endpoint_.finish(operation_);
    }

   private:
    Endpoint& endpoint_;
    Operation operation_;
    bool under_way_ = false;
  };
  Receive receive(int peer, const Tag& tag) {
    return {*this, peer, tag, now_seconds() + timeout_seconds_};
  }
  // For the controller's next command, which may come whenever it likes.
  Receive receive_any_time(int peer, const Tag& tag) {
    return {*this, peer, tag, std::numeric_limits<double>::max()};
  }

  // co_await endpoint.together(tasks) runs the tasks side by side until all are done. Throws what
  // the first failed one threw; the others then stand still, and are to be destroyed by the caller.
  // By task: its micro-batch, -1 where none is given.
  Task<> together(std::span<Task<>> tasks, std::span<const int16_t> micro_batches = {});
  // The same from outside of any coroutine: the thread waits here.
  void run(std::span<Task<>> tasks);

  // Of what is ready the lowest micro-batch goes first, up to where it waits again: it is the one
  // that others (a next stage, the other group) wait for. The rank looks for messages in between.
  void resume_later(std::coroutine_handle<> handle, int16_t micro_batch = -1) {
    ready_.push_back({micro_batch, handle});
  }
  // A coroutine that all others come from. What was ready before is of a run that failed.
  void start(std::coroutine_handle<> handle) {
    ready_.clear();
    resume_later(handle);
  }
  // False: nothing was ready.
  bool resume_one();
  // What poll() has reported, after waiting since a time: its coroutine becomes ready.
  void completed(Operation& operation, double since_seconds);

 private:
  struct Join;
  Message finish(Operation& operation);
  Task<> watch(Task<>& task, Join& join);

  Transport& transport_;
  Recorder& recorder_;
  double timeout_seconds_;
  std::pmr::unsynchronized_pool_resource memory_;
  struct Ready {
    int16_t micro_batch;
    std::coroutine_handle<> handle;
  };
  std::vector<Ready> ready_;  // in the order in which they became so
};

// Lets the coroutines of a rank pass a point in the order of their micro-batches: sums over
// micro-batches then run in index order whatever order messages arrive in.
class Turnstile {
 public:
  explicit Turnstile(Endpoint& endpoint) : endpoint_(&endpoint) {}
  auto wait(int16_t micro_batch) {
    struct Awaiter {
      Turnstile& gate;
      int16_t turn;
      bool await_ready() const { return gate.next_ == turn; }
      void await_suspend(std::coroutine_handle<> caller) const {
        gate.waiting_.push_back({turn, caller});
      }
      void await_resume() const {}
    };
    return Awaiter{*this, micro_batch};
  }
  void pass();

 private:
  struct Waiting {
    int16_t turn;
    std::coroutine_handle<> handle;
  };
  Endpoint* endpoint_;
  int16_t next_ = 0;
  std::vector<Waiting> waiting_;
};

}  // namespace tandem
