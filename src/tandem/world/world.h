// A world starts the ranks of a plan and gives them devices, a transport and a clock. The ranks
// obey what is sent on controller(). Used by one thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "tandem/world/seat.h"

namespace tandem {

class World {
 public:
  virtual ~World() = default;  // the ranks stop

  // The seat behind the last rank.
  virtual Transport& controller() = 0;
  virtual Device& controller_device() = 0;
  virtual double timeout_seconds() const = 0;

  // Where a rank sits, if that is in this process; read only between commands.
  virtual Seat* seat(int rank) = 0;
  // What a rank has recorded, wherever it sits.
  virtual std::vector<Span> spans(int rank) { return seat(rank)->recorder.spans(); }

  // Whether ranks compute with the very memory of the store the world was given, or with what is
  // sent to them.
  virtual bool shares_store() const { return true; }
  virtual bool shards_optimizer() const = 0;  // Rank::Settings
  // After a peer was lost: every rank has a seat again, and takes commands. Those that had to be
  // given a new one hold nothing. Nothing: the world has no way to go on.
  virtual std::optional<std::vector<int>> recover() { return std::nullopt; }
  // Between commands: whoever has come in place of the lost is given ranks; those, which hold
  // nothing.
  virtual std::vector<int> take_in() { return {}; }

  // Ranks are about to be told to move to this plan; those that are given new seats from now on
  // follow it. It has as many ranks as the first.
  virtual void adopt(const Plan& plan) = 0;

  // For those who know that it sits here.
  Recorder& recorder(int rank) { return seat(rank)->recorder; }
  Device& device(int rank) { return *seat(rank)->device; }
  Rank& rank(int number) { return *seat(number)->rank; }
};

// The store must outlive the world.
using MakeWorld = std::function<std::unique_ptr<World>(const Plan&, ParameterStore&)>;

}  // namespace tandem
