#include "tandem/comm/local/local_transport.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "tandem/base/clock.h"
#include "tandem/comm/inbox.h"

namespace tandem {

// An inbox that several threads put into, guarded by `mutex`; `ready` mirrors whether it has
// something completed, for spinning without the lock.
struct LocalHub::Queue {
  explicit Queue(int peers) : inbox(peers) {}

  std::atomic<bool> here{true};   // its rank sits in this process
  std::atomic<bool> lost{false};  // its rank is lost
  std::mutex mutex;
  std::condition_variable wake;
  Inbox inbox;
  int64_t epoch = 0;  // that its rank has joined
  std::vector<std::pair<Envelope, Message>> early;
  std::atomic<bool> ready{false};

  // Whether that is something to wake the rank for.
  bool deliver(const Envelope& envelope, Message message) {
    if (envelope.epoch < epoch) return false;
    if (envelope.epoch > epoch) {
      early.emplace_back(envelope, std::move(message));
      return false;
    }
    const bool completes = inbox.deliver(envelope.from, envelope.tag, std::move(message));
    if (completes) ready.store(true, std::memory_order_release);
    return completes;
  }
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalHub& hub, int rank, double spin_seconds)
      : hub_(hub), own_(*hub.queues_[rank]), rank_(rank), spin_seconds_(spin_seconds) {}

  int self() const override { return rank_; }
  double now_seconds() const override { return wall_seconds(); }

  bool send(Operation& operation) override {
    operation.message.sent_seconds = now_seconds();
    const Envelope envelope{own_.epoch, rank_, operation.peer, operation.tag};
    const bool sent = hub_.send(envelope, std::move(operation.message));
    operation.status = sent ? Status::ok : Status::peer_lost;
    return true;
  }

  bool receive(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    if (own_.epoch == hub_.epoch_) return own_.inbox.receive(operation);
    operation.status = Status::cancelled;
    return true;
  }

  void cancel(Operation& operation) override {
    const std::lock_guard lock(own_.mutex);
    own_.inbox.cancel(operation);
  }

  Operation* poll(double deadline_seconds) override {
    spin(deadline_seconds);
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

  bool renew() override {
    {
      std::unique_lock lock(own_.mutex);
      own_.wake.wait(lock, [&] { return hub_.closed_ || hub_.epoch_ > own_.epoch; });
      if (hub_.closed_ || !own_.here) return false;
    }
    const std::lock_guard membership(hub_.membership_);
    const std::lock_guard lock(own_.mutex);
    own_.epoch = hub_.epoch_;
    own_.inbox.begin(hub_.lost_);
    own_.ready = false;
    for (auto& [envelope, message] : std::exchange(own_.early, {}))
      own_.deliver(envelope, std::move(message));
    return true;
  }

 private:
  void spin(double deadline_seconds) const {
    if (spin_seconds_ <= 0) return;
    const double until = std::min(now_seconds() + spin_seconds_, deadline_seconds);
    while (!own_.ready.load(std::memory_order_acquire) && now_seconds() < until)
      for (int i = 0; i < 32; ++i) __builtin_ia32_pause();
  }

  LocalHub& hub_;
  LocalHub::Queue& own_;
  int rank_;
  double spin_seconds_;
};

LocalHub::LocalHub(int peers, Uplink uplink)
    : uplink_(std::move(uplink)), lost_(static_cast<size_t>(peers)) {
  for (int i = 0; i < peers; ++i) queues_.push_back(std::make_unique<Queue>(peers));
}

LocalHub::~LocalHub() = default;

std::unique_ptr<Transport> LocalHub::connect(int rank, double spin_seconds) {
  return std::make_unique<LocalTransport>(*this, rank, spin_seconds);
}

bool LocalHub::send(const Envelope& envelope, Message message) {
  Queue& peer = *queues_[envelope.to];
  if (peer.lost) return false;
  if (!peer.here) {
    uplink_(envelope, std::move(message));
    return true;
  }
  bool wake = false;
  {
    const std::lock_guard lock(peer.mutex);
    wake = peer.deliver(envelope, std::move(message));
  }
  if (wake && envelope.to != envelope.from) peer.wake.notify_one();
  return true;
}

void LocalHub::deliver(const Envelope& envelope, Message message) {
  if (envelope.from < 0 || envelope.from >= std::ssize(queues_)) return;
  if (envelope.to < 0 || envelope.to >= std::ssize(queues_)) return;
  Queue& queue = *queues_[envelope.to];
  {
    const std::lock_guard lock(queue.mutex);
    if (!queue.deliver(envelope, std::move(message))) return;
  }
  queue.wake.notify_one();
}

void LocalHub::lose(int rank, int64_t epoch) {
  const std::lock_guard membership(membership_);
  if (epoch != epoch_) return;
  lost_[rank] = true;
  queues_[rank]->lost = true;
  for (const auto& queue : queues_) {
    const std::lock_guard lock(queue->mutex);
    if (queue->epoch == epoch_) queue->inbox.lose(rank);
    queue->ready.store(queue->inbox.has_completed(), std::memory_order_release);
  }
  wake_all();
}

int64_t LocalHub::withdraw(int rank) {
  int64_t epoch = 0;
  {
    const std::lock_guard lock(queues_[rank]->mutex);
    epoch = queues_[rank]->epoch;
  }
  lose(rank, epoch);
  return epoch;
}

void LocalHub::begin_epoch(int64_t epoch, const std::vector<bool>& here) {
  const std::lock_guard membership(membership_);
  epoch_ = epoch;
  lost_.assign(lost_.size(), false);
  for (size_t rank = 0; rank < queues_.size(); ++rank) {
    Queue& queue = *queues_[rank];
    const std::lock_guard lock(queue.mutex);
    queue.here = here[rank];
    queue.lost = false;
    queue.inbox.withdraw_all();
    queue.ready.store(queue.inbox.has_completed(), std::memory_order_release);
  }
  wake_all();
}

void LocalHub::close() {
  closed_ = true;
  begin_epoch(epoch_ + 1, std::vector<bool>(queues_.size(), true));
}

void LocalHub::wake_all() {
  for (const auto& queue : queues_) queue->wake.notify_all();
}

}  // namespace tandem
