// What has come for one rank and what it waits for: messages meet receives of the same peer and tag
// in order. Transports bring messages in, and report what is completed. Not thread safe.
#pragma once

#include <vector>

#include "tandem/comm/transport.h"

namespace tandem {

class Inbox {
 public:
  explicit Inbox(int peers) : arrivals_(static_cast<size_t>(peers)), lost_(arrivals_.size()) {
    posted_.reserve(256);
    completed_.reserve(256);
  }

  // True: a receive is completed by it. Else it is kept for one that is yet to come.
  bool deliver(int peer, const Tag& tag, Message message);
  // True: complete already (Transport::receive).
  bool receive(Operation& operation);
  void cancel(Operation& operation);

  // The operation that has been completed for longest, or null.
  Operation* next();
  bool has_completed() const { return !completed_.empty(); }

  // Receives from this peer fail, from now on and those that wait, but for what has come already.
  void lose(int peer);

  // Every receive that waits completes as cancelled.
  void withdraw_all();
  // As new, but that these peers are lost; nothing waits or is completed.
  void begin(const std::vector<bool>& lost);

  // The receives that wait.
  const std::vector<Operation*>& posted() const { return posted_; }
  // Of the receives that wait, or `otherwise`.
  double next_deadline_seconds(double otherwise) const;
  // Completes one receive whose deadline has passed; false where there is none.
  bool expire(double now_seconds);

 private:
  struct Arrival {
    Tag tag;
    Message message;
  };
  void complete(Operation& operation, Status status) {
    operation.status = status;
    completed_.push_back(&operation);
  }

  std::vector<std::vector<Arrival>> arrivals_;  // by peer: an exchange has messages of hundreds
  std::vector<Operation*> posted_, completed_;
  std::vector<bool> lost_;
};

}  // namespace tandem
