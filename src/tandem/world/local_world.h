// Ranks as threads of this process, and the controller's seat behind them.
#pragma once

#include <memory>
#include <vector>

#include "tandem/world/seat.h"
#include "tandem/world/world.h"

namespace tandem {

class LocalWorld final : public World {
 public:
  LocalWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings);
  ~LocalWorld() override;  // waits for the ranks

  Transport& controller() override { return *controller_; }
  Device& controller_device() override { return *device_; }
  double timeout_seconds() const override { return settings_.rank.timeout_seconds; }
  bool shards_optimizer() const override { return settings_.rank.shard_optimizer; }
  Seat* seat(int rank) override { return &seats_[rank]->seat(); }
  void adopt(const Plan& plan) override { plan_.set(plan); }

 private:
  CurrentPlan plan_;
  WorldSettings settings_;
  LocalHub hub_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transport> controller_;
  std::vector<std::unique_ptr<OccupiedSeat>> seats_;
};

MakeWorld local_world(const WorldSettings& settings);

}  // namespace tandem
