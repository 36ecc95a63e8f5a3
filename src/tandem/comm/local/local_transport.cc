#include "tandem/comm/local/local_transport.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "tandem/base/clock.h"

namespace tandem {

// What lies ready for one rank and what it waits for. All fields are guarded by `mutex`; `ready`
// mirrors whether `completed` holds something, for spinning without the lock.
struct LocalHub::Queue {
  struct Arrival {
    int peer;
    Tag tag;
    Message message;
  };

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Arrival> arrivals;
  std::vector<Operation*> posted;
  std::vector<Operation*> completed;
  std::vector<bool> lost;
  std::atomic<bool> ready{false};

  void complete(Operation* operation, Status status) {
    operation->status = status;
    completed.push_back(operation);
    ready.store(true, std::memory_order_release);
  }
  void reserve() {
    arrivals.reserve(256);
    posted.reserve(256);
    completed.reserve(256);
  }
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
      operation.status = peer.lost[operation.peer] ? Status::peer_lost : Status::ok;
      if (operation.status != Status::ok) return true;
      const auto waiting = std::ranges::find_if(peer.posted, [&](const Operation* posted) {
        return posted->peer == rank_ && posted->tag == operation.tag;
      });
      if (waiting == peer.posted.end()) {
        peer.arrivals.push_back({rank_, operation.tag, std::move(operation.message)});
      } else {
        Operation* receiver = *waiting;
        peer.posted.erase(waiting);
        receiver->message = std::move(operation.message);
        peer.complete(receiver, Status::ok);
        wake = true;
      }
    }
    if (wake && &peer != &own_) peer.wake.notify_one();
    return true;
  }

  bool receive(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    const auto arrived = std::ranges::find_if(own_.arrivals, [&](const auto& arrival) {
      return arrival.peer == operation.peer && arrival.tag == operation.tag;
    });
    if (arrived != own_.arrivals.end()) {
      operation.message = std::move(arrived->message);
      own_.arrivals.erase(arrived);
      operation.status = Status::ok;
    } else if (own_.lost[operation.peer]) {
      operation.status = Status::peer_lost;
    } else {
      operation.status = Status::pending;
      own_.posted.push_back(&operation);
      return false;
    }
    return true;
  }

  void cancel(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    std::erase(own_.completed, &operation);
    std::erase(own_.posted, &operation);
    operation.status = Status::cancelled;
  }

  Operation* poll(double deadline_seconds) override {
    spin();
    std::unique_lock lock(own_.mutex);
    while (own_.completed.empty()) {
      double until = deadline_seconds;
      for (const Operation* posted : own_.posted) until = std::min(until, posted->deadline_seconds);
      const double now = now_seconds();
      if (now >= until) {
        if (!expire(now)) return nullptr;
        break;
      }
      own_.wake.wait_for(lock, std::chrono::duration<double>(std::min(until - now, 3600.0)));
    }
    Operation* operation = own_.completed.front();
    own_.completed.erase(own_.completed.begin());
    own_.ready.store(!own_.completed.empty(), std::memory_order_relaxed);
    return operation;
  }

 private:
  void spin() const {
    if (spin_seconds_ <= 0) return;
    const double until = now_seconds() + spin_seconds_;
    while (!own_.ready.load(std::memory_order_acquire) && now_seconds() < until)
      for (int i = 0; i < 32; ++i) __builtin_ia32_pause();
  }

  // Whether some posted operation had passed its deadline and is completed now.
  bool expire(double now) {
    const auto late = std::ranges::find_if(
        own_.posted, [&](const Operation* posted) { return posted->deadline_seconds <= now; });
    if (late == own_.posted.end()) return false;
    Operation* operation = *late;
    own_.posted.erase(late);
    own_.complete(operation, Status::timed_out);
    return true;
  }

  LocalHub& hub_;
  LocalHub::Queue& own_;
  int rank_;
  double spin_seconds_;
};

LocalHub::LocalHub(int peers) {
  for (int i = 0; i < peers; ++i) {
    queues_.push_back(std::make_unique<Queue>());
    queues_.back()->lost.resize(peers);
    queues_.back()->reserve();
  }
}

LocalHub::~LocalHub() = default;

std::unique_ptr<Transport> LocalHub::connect(int rank, double spin_seconds) {
  return std::make_unique<LocalTransport>(*this, rank, spin_seconds);
}

void LocalHub::lose(int rank) {
  for (const auto& queue : queues_) {
    {
      const std::lock_guard lock(queue->mutex);
      queue->lost[rank] = true;
      for (size_t i = 0; i < queue->posted.size();) {
        Operation* operation = queue->posted[i];
        if (operation->peer == rank) {
          queue->posted.erase(queue->posted.begin() + static_cast<std::ptrdiff_t>(i));
          queue->complete(operation, Status::peer_lost);
        } else {
          ++i;
        }
      }
    }
    queue->wake.notify_one();
  }
}

}  // namespace tandem
