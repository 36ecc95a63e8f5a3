// A world starts the ranks of a plan and gives them devices, a transport and a clock. The ranks
// obey what is sent on controller(). Used by one thread.
#pragma once

#include <functional>
#include <memory>

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
  virtual Recorder& recorder(int rank) = 0;
  virtual Device& device(int rank) = 0;
  virtual Rank& rank(int number) = 0;
};

// The plan and the store must outlive the world.
using MakeWorld = std::function<std::unique_ptr<World>(const Plan&, ParameterStore&)>;

}  // namespace tandem
