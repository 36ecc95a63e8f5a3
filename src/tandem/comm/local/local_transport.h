// Ranks as threads of one process: a message is a reference to the sender's tensor, put into the
// receiver's queue. Nothing is copied. Ranks of other processes are reached through an Uplink.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "tandem/comm/envelope.h"

namespace tandem {

// Takes messages for ranks of other processes, from any thread; what cannot be sent is dropped.
using Uplink = std::function<void(const Envelope&, Message)>;

// The queues of `peers` ranks. Thread safe.
//
// Membership has epochs. In a new one every rank starts afresh: what it waits for is cancelled, and
// what it still sends and what is still under way to it is dropped, until it has renewed its
// transport. Messages of an epoch that a rank has not joined yet are kept for it.
class LocalHub {
 public:
  explicit LocalHub(int peers, Uplink uplink = {});
  ~LocalHub();

  // The transport of one rank; the hub must outlive it. A rank that waits spins for
  // `spin_seconds` before it sleeps: worth it only where every rank has a core.
  std::unique_ptr<Transport> connect(int rank, double spin_seconds = 0);
  // From now on every operation with this rank completes with Status::peer_lost, if that is the
  // epoch.
  void lose(int rank, int64_t epoch);
  // A rank that sits here has failed: whoever waits for it shall not wait in vain. The epoch it is
  // in.
  int64_t withdraw(int rank);

  // here[rank]: whether the rank sits in this process.
  void begin_epoch(int64_t epoch, const std::vector<bool>& here);
  // Ranks that wait for anything, a new epoch too, are told that there is nothing to come.
  void close();
  // What another process has sent to a rank that sits here.
  void deliver(const Envelope& envelope, Message message);

 private:
  friend class LocalTransport;
  struct Queue;
  bool send(const Envelope& envelope, Message message);
  void wake_all();

  std::vector<std::unique_ptr<Queue>> queues_;
  Uplink uplink_;
  std::atomic<int64_t> epoch_{0};
  std::atomic<bool> closed_{false};
  std::mutex membership_;  // guards lost_; taken before a queue's
  std::vector<bool> lost_;
};

}  // namespace tandem
