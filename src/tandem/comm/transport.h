// Point-to-point messages between ranks. One Transport a rank, used by that rank's thread alone.
// Failures are values: every operation completes exactly once, with a Status.
// Messages with the same sender, receiver and tag keep their order. Implementations: local/ (with
// ucx/ behind it for ranks of other processes), sim/.
#pragma once

#include <array>
#include <coroutine>
#include <cstdint>

#include "tandem/device/tensor.h"
#include "tandem/trace/span.h"

namespace tandem {

// Who has given no sign of life for so long is lost.
inline constexpr double silent_seconds = 0.8;

enum class Status : uint8_t { pending, ok, peer_lost, cancelled, timed_out };
const char* status_name(Status status);

// What a message belongs to; receiver and sender name it alike.
struct Tag {
  MessageKind kind = MessageKind::control;
  uint8_t phase = 0;  // tells apart messages of one kind within a layer
  bool backward = false;
  int16_t layer = -1;
  int16_t micro_batch = -1;
  friend bool operator==(const Tag&, const Tag&) = default;
};

// Up to two tensors. In one process the receiver gets the sender's own memory: neither side writes
// to it afterwards.
struct Message {
  std::array<Tensor, 2> parts;
  double sent_seconds = 0;
  int64_t bytes() const { return parts[0].bytes() + parts[1].bytes(); }
};

// One send or receive under way. Belongs to the caller, stays where it is until it has completed.
struct Operation {
  int peer = -1;
  Tag tag;
  Message message;
  double deadline_seconds = 0;  // on the transport's clock
  Status status = Status::pending;
  std::coroutine_handle<> waiter;
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual int self() const = 0;
  virtual double now_seconds() const = 0;

  // True: complete already, with its status set, and poll() does not report it. False: under way,
  // and not to be looked at before poll() reports it.
  [[nodiscard]] virtual bool send(Operation& operation) = 0;
  [[nodiscard]] virtual bool receive(Operation& operation) = 0;
  // Withdraws an operation that poll() has not reported yet; it never will.
  virtual void cancel(Operation& operation) = 0;
  // Waits until an operation completes, at most until `deadline_seconds`; null then.
  virtual Operation* poll(double deadline_seconds) = 0;
  // After a receive was cancelled by a new epoch of the membership, or the rank has failed: waits
  // for an epoch to begin and takes part in it. No operation may be under way. False: there will be
  // none.
  virtual bool renew() { return false; }
};

}  // namespace tandem
