// Ranks on a described cluster in virtual time. Nothing is computed; the rank program, its messages
// and its spans are those of every world.
#pragma once

#include <memory>
#include <vector>

#include "tandem/cluster/cluster.h"
#include "tandem/comm/sim/sim_hub.h"
#include "tandem/device/sim/sim_device.h"
#include "tandem/world/world.h"

namespace tandem {

struct SimSettings {
  Routing routing;
  std::vector<int> devices;  // of the cluster, by rank; empty: rank r sits on device r
  bool trainable = false, shard_optimizer = true;
  std::vector<Fault> faults;
  std::vector<Crowding> crowding;  // by rank; empty: each works as fast as if it were alone
};

class SimWorld final : public World {
 public:
  // InputError where the plan has more ranks than the cluster has devices, or names one twice, and
  // where there is nothing that a fault could be of. The cluster must outlive the world.
  // The ranks of a device that fails are seated as in a cluster of processes (seating.h), a device
  // for a process; devices beyond the plan's are idle until then.
  SimWorld(const Plan& plan, ParameterStore& store, const Cluster& cluster,
           const SimSettings& settings);
  ~SimWorld() override;

  Transport& controller() override { return *controller_; }
  Device& controller_device() override { return *device_; }
  double timeout_seconds() const override { return 1e9; }  // who waits in vain is found at once

  bool shards_optimizer() const override { return rank_settings_.shard_optimizer; }
  Seat* seat(int rank) override { return seats_[rank].get(); }
  void adopt(const Plan& plan) override { plan_ = std::make_shared<const Plan>(plan); }
  std::optional<std::vector<int>> recover() override;

  // With ranks that have since been seated elsewhere.
  int lost_devices() const { return lost_devices_; }
  const SimHub& hub() const { return hub_; }
  const std::vector<int>& devices() const { return devices_; }
  const DeviceType& type_of(int rank) const { return cluster_.type_of(devices_[rank]); }

 private:
  void plan_failures(const std::vector<Fault>& faults);
  void sit_down(int rank);
  void start(int rank);
  bool resume(int rank);
  void load(const std::vector<int>& moved);
  int64_t bytes_to_read(int rank, const std::vector<bool>& loaded) const;

  const Cluster& cluster_;
  Routing routing_;
  std::vector<Crowding> crowding_;
  std::vector<int> devices_;  // by rank
  std::vector<Pace> paces_;   // by device
  std::shared_ptr<const Plan> plan_;
  ParameterStore& store_;
  std::vector<Shard> shards_;
  Rank::Settings rank_settings_;
  SimHub hub_;
  int lost_devices_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transport> controller_;
  std::vector<std::unique_ptr<Seat>> seats_;    // by rank
  std::vector<std::optional<Task<>>> serving_;  // by rank
};

}  // namespace tandem
