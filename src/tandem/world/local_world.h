// Ranks as threads of this process, and the controller's seat behind them.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "tandem/comm/local/local_transport.h"
#include "tandem/runtime/rank.h"

namespace tandem {

struct WorldSettings {
  int threads = 1;  // for the whole process, shared out over the ranks; each has at least one
  bool keep_all_spans = false;  // for the trace of a whole run; else the newest are kept
  Rank::Settings rank;
};

// Starts every rank of the plan at once; they obey what is sent on controller(). The plan and the
// store must outlive the world. Used by one thread.
class LocalWorld {
 public:
  LocalWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings);
  ~LocalWorld();  // tells the ranks to stop, and waits for them

  Transport& controller() { return *controller_; }
  Device& controller_device() { return *device_; }
  double timeout_seconds() const { return settings_.rank.timeout_seconds; }

  // What the ranks have recorded and hold; read only between commands.
  int ranks() const { return static_cast<int>(seats_.size()); }
  Recorder& recorder(int rank) { return seats_[rank]->recorder; }
  Device& device(int rank) { return *seats_[rank]->device; }
  Rank& rank(int number) { return *seats_[number]->rank; }

 private:
  struct Seat {
    explicit Seat(int number) : recorder(number) {}
    Recorder recorder;
    std::unique_ptr<Device> device;
    std::unique_ptr<Transport> transport;
    std::unique_ptr<Rank> rank;
    std::thread thread;
  };

  WorldSettings settings_;
  LocalHub hub_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transport> controller_;
  std::vector<std::unique_ptr<Seat>> seats_;
};

}  // namespace tandem
