#include "tandem/comm/local/local_transport.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "tandem/base/clock.h"
#include "tandem/comm/inbox.h"

namespace tandem {

// An inbox that several threads put into, guarded by `mutex`; `ready` mirrors whether it has
// something completed, for spinning without the lock.
struct LocalHub::Queue {
  explicit Queue(int peers) : inbox(peers) {}

  std::mutex mutex;
  std::condition_variable wake;
  Inbox inbox;
  std::atomic<bool> ready{false};
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalHub& hub, int rank, double spin_seconds)
      : hub_(hub), own_(*hub.queues_[rank]), rank_(rank), spin_seconds_(spin_seconds) {}

  int self() const override { return rank_; }
  double now_seconds() const override { return wall_seconds(); }

  bool send(Operation& operation) override {
    LocalHub::Queue& peer = *hub_.queues_[operation.peer];
    operation.message.sent_seconds = now_seconds();
    bool wake = false;
    {
      const std::lock_guard lock(peer.mutex);
      operation.status = peer.inbox.lost(operation.peer) ? Status::peer_lost : Status::ok;
      if (operation.status != Status::ok) return true;
      wake = peer.inbox.deliver(rank_, operation.tag, std::move(operation.message));
      if (wake) peer.ready.store(true, std::memory_order_release);
    }
    if (wake && &peer != &own_) peer.wake.notify_one();
    return true;
  }

  bool receive(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    return own_.inbox.receive(operation);
  }

  void cancel(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    own_.inbox.cancel(operation);
  }

  Operation* poll(double deadline_seconds) override {
    spin();
    std::unique_lock lock(own_.mutex);
    while (!own_.inbox.has_completed()) {
      const double until = own_.inbox.next_deadline_seconds(deadline_seconds);
      const double now = now_seconds();
      if (now >= until) {
        if (!own_.inbox.expire(now)) return nullptr;
        break;
      }
      own_.wake.wait_for(lock, std::chrono::duration<double>(std::min(until - now, 3600.0)));
    }
    Operation* operation = own_.inbox.next();
    own_.ready.store(own_.inbox.has_completed(), std::memory_order_relaxed);
    return operation;
  }

 private:
  void spin() const {
    if (spin_seconds_ <= 0) return;
    const double until = now_seconds() + spin_seconds_;
    while (!own_.ready.load(std::memory_order_acquire) && now_seconds() < until)
      for (int i = 0; i < 32; ++i) __builtin_ia32_pause();
  }

  LocalHub& hub_;
  LocalHub::Queue& own_;
  int rank_;
  double spin_seconds_;
};

LocalHub::LocalHub(int peers) {
  for (int i = 0; i < peers; ++i) queues_.push_back(std::make_unique<Queue>(peers));
}

LocalHub::~LocalHub() = default;

std::unique_ptr<Transport> LocalHub::connect(int rank, double spin_seconds) {
  return std::make_unique<LocalTransport>(*this, rank, spin_seconds);
}

void LocalHub::lose(int rank) {
  for (const auto& queue : queues_) {
    {
      const std::lock_guard lock(queue->mutex);
      queue->inbox.lose(rank);
      queue->ready.store(queue->inbox.has_completed(), std::memory_order_release);
    }
    queue->wake.notify_one();
  }
}

}  // namespace tandem
