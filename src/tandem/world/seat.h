// Where a rank sits in this process: what it works with, and the thread that runs it.
#pragma once

#include <memory>
#include <mutex>
#include <thread>

#include "tandem/comm/local/local_transport.h"
#include "tandem/runtime/rank.h"

namespace tandem {

struct WorldSettings {
  int threads = 1;  // for the whole process, shared out over the ranks; each has at least one
  bool keep_all_spans = false;  // for the trace of a whole run; else the newest are kept
  // By rank: its device takes so many times as long for everything; a rank behind them: 1.
  std::vector<double> pace;
  Rank::Settings rank;
};

// The plan of a world, which may change while ranks run. Safe from any thread.
class CurrentPlan {
 public:
  explicit CurrentPlan(const Plan& plan) { set(plan); }
  void set(const Plan& plan) {
    const std::lock_guard lock(mutex_);
    plan_ = std::make_shared<const Plan>(plan);
  }
  std::shared_ptr<const Plan> get() const {
    const std::lock_guard lock(mutex_);
    return plan_;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Plan> plan_;
};

// Members are destroyed in the reverse order: the rank goes before what it works with.
struct Seat {
  explicit Seat(int number) : recorder(number) {}
  Recorder recorder;
  std::unique_ptr<Device> device;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Rank> rank;

  // The rank gives way to its successor, if it has one.
  bool succeed() {
    if (!rank->successor) return false;
    rank = std::move(rank->successor);
    return true;
  }
};

// Told the report of a rank that has failed, and in which epoch, by the rank's thread.
using OnFailure = std::function<void(const Report&, int64_t epoch)>;

// A seat with a thread of its own, which runs the rank until the hub is closed or, in a new epoch,
// the rank sits elsewhere. A rank that finds another plan at the beginning of an epoch begins anew.
// Everything given must outlive it.
class OccupiedSeat {
 public:
  OccupiedSeat(int number, const CurrentPlan& plan, ParameterStore& store,
               const WorldSettings& settings, int threads, double spin_seconds, LocalHub& hub,
               OnFailure on_failure);
  ~OccupiedSeat() { thread_.join(); }

  Seat& seat() { return seat_; }

 private:
  void sit_down();
  void run(LocalHub& hub, const OnFailure& on_failure);

  const CurrentPlan& plan_;
  ParameterStore& store_;
  const WorldSettings& settings_;
  Seat seat_;
  std::thread thread_;
};

// How long ranks of this process may spin before they sleep: not at all where others need the
// cores.
double spin_seconds_for(int ranks);

}  // namespace tandem
