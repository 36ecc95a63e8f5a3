// What every Transport has to do, whatever carries its messages. The tests are in
// transport_conformance.cc; a transport takes part with one line in a file of its own:
//   INSTANTIATE_TEST_SUITE_P(Local, TransportConformance, ::testing::Values(TransportMaker{...}));
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <thread>
#include <vector>

#include "tandem/comm/transport.h"
#include "tandem/device/cpu/cpu_device.h"

namespace tandem {
inline void PrintTo(Status status, std::ostream* out) { *out << status_name(status); }
}  // namespace tandem

namespace tandem::test {

// Some ranks that can talk to each other. Each transport() is used by one thread at a time.
class TransportWorld {
 public:
  virtual ~TransportWorld() = default;
  virtual Transport& transport(int rank) = 0;
  virtual void lose(int rank) = 0;  // as if the rank had died, from any thread
};

struct TransportMaker {
  const char* name;
  std::function<std::unique_ptr<TransportWorld>(int ranks)> make;
};
inline void PrintTo(const TransportMaker& maker, std::ostream* out) { *out << maker.name; }

// Runs body(rank) on a thread for each rank.
inline void on_threads(int ranks, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

// One rank of a test: its transport, memory of its own, and which operations have completed.
class Seat {
 public:
  explicit Seat(Transport& transport) : transport_(transport), device_(make_cpu_device(1)) {}

  Transport& transport() { return transport_; }
  double in_seconds(double seconds) const { return transport_.now_seconds() + seconds; }

  // [1, count] of i32, element i is first + i.
  Tensor numbers(int64_t count, int32_t first) {
    std::vector<int32_t> values(count);
    for (int64_t i = 0; i < count; ++i) values[i] = first + static_cast<int32_t>(i);
    return device_->upload(values, 1, count);
  }
  Device& device() { return *device_; }

  void start(Operation& operation) {
    completed_.erase(&operation);  // one that stood at the same place
    if (operation.deadline_seconds == 0) operation.deadline_seconds = in_seconds(60);
    if (transport_.receive(operation)) completed_.insert(&operation);
  }
  // Takes up whatever poll() reports until `operation` has completed.
  Status wait(Operation& operation) {
    while (!completed_.contains(&operation)) take();
    return operation.status;
  }
  Operation* take(double seconds = 60) {
    Operation* reported = transport_.poll(in_seconds(seconds));
    if (reported) {
      EXPECT_TRUE(completed_.insert(reported).second) << "completed twice";
    } else if (seconds >= 60) {
      ADD_FAILURE() << "nothing completed";
      std::abort();  // the caller would wait for ever
    }
    return reported;
  }
  bool completed(Operation& operation) const { return completed_.contains(&operation); }
  Status receive(Operation& operation) {
    start(operation);
    return wait(operation);
  }
  Status send(int peer, const Tag& tag, Message message) {
    Operation operation{.peer = peer, .tag = tag, .message = std::move(message)};
    operation.deadline_seconds = in_seconds(60);
    if (transport_.send(operation)) return operation.status;
    const Status status = wait(operation);
    completed_.erase(&operation);
    return status;
  }
  Status send(int peer, const Tag& tag, const Tensor& tensor) {
    return send(peer, tag, Message{.parts = {tensor}});
  }

 private:
  Transport& transport_;
  std::unique_ptr<Device> device_;
  std::set<Operation*> completed_;
};

// Whether a message holds what Seat::numbers(count, first) made.
inline bool holds(const Tensor& tensor, int64_t count, int32_t first) {
  if (tensor.rows * tensor.cols != count || (count > 0 && tensor.dtype != DType::i32)) return false;
  for (int64_t i = 0; i < count; ++i)
    if (tensor.row<int32_t>(0)[i] != first + static_cast<int32_t>(i)) return false;
  return true;
}

inline Tag layer_tag(int layer) {
  return {.kind = MessageKind::dispatch, .layer = static_cast<int16_t>(layer)};
}

class TransportConformance : public ::testing::TestWithParam<TransportMaker> {
 protected:
  std::unique_ptr<TransportWorld> world(int ranks) { return GetParam().make(ranks); }
};

}  // namespace tandem::test
