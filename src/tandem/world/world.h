// A world starts the ranks of a plan and gives them devices, a transport and a clock. The ranks
// obey what is sent on controller(). Used by one thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tandem/runtime/rank.h"

namespace tandem {

class World {
 public:
  virtual ~World() = default;  // tells the ranks to stop

  // The seat behind the last rank.
  virtual Transport& controller() = 0;
  virtual Device& controller_device() = 0;
  virtual double timeout_seconds() const = 0;

  // What the ranks have recorded and hold; read only between commands.
  Recorder& recorder(int rank) { return seats_[rank]->recorder; }
  Device& device(int rank) { return *seats_[rank]->device; }
  Rank& rank(int number) { return *seats_[number]->rank; }

 protected:
  struct Seat {
    explicit Seat(int number) : recorder(number) {}
    Recorder recorder;
    std::unique_ptr<Device> device;
    std::unique_ptr<Transport> transport;
    std::unique_ptr<Rank> rank;
  };
  std::vector<std::unique_ptr<Seat>> seats_;  // one a rank, in order
};

// The plan and the store must outlive the world.
using MakeWorld = std::function<std::unique_ptr<World>(const Plan&, ParameterStore&)>;

}  // namespace tandem
