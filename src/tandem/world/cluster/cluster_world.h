// Ranks in the processes of a fleet, and the controller's seat in the one that leads. A lost
// process is got over: its ranks get seats in others, and go back when it has been replaced.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "tandem/world/cluster/fleet.h"
#include "tandem/world/cluster/process_world.h"
#include "tandem/world/world.h"

namespace tandem {

class ClusterWorld final : public World {
 public:
  // settings.threads: of each process. Any number of ranks sits in any number of processes, and a
  // process beyond them waits to take the place of a lost one. The fleet must outlive the world,
  // and serves one at a time.
  ClusterWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings,
               Fleet& fleet);
  ~ClusterWorld() override;

  Transport& controller() override { return *controller_; }
  Device& controller_device() override { return *device_; }
  double timeout_seconds() const override { return order_.settings.rank.timeout_seconds; }
  Seat* seat(int) override { return nullptr; }
  void adopt(const Plan& plan) override;
  bool shards_optimizer() const override { return order_.settings.rank.shard_optimizer; }
  std::vector<Span> spans(int rank) override;
  bool shares_store() const override { return !order_.directory.empty(); }
  std::optional<std::vector<int>> recover() override;
  std::vector<int> take_in() override;

 private:
  // A process of the fleet, as far as it is in this world.
  struct Part {
    int64_t started = 0, ready = 0;  // incarnations
  };

  void start(int process);
  void make_ready(int process, const nlohmann::json& answer);
  bool usable(int process) const;
  // Goes on until an epoch stands, with ranks in these seats where they can be. Ranks that have
  // moved. WorldError where nobody is left.
  std::vector<int> seat_ranks(std::vector<int> process_of);
  bool try_epoch(const std::vector<int>& process_of, int64_t losses);
  std::vector<std::string> prepare(int64_t losses);
  void wait_connected(const Membership& membership, int64_t losses);

  Fleet& fleet_;
  WorldOrder order_;
  std::vector<Part> parts_;      // by process
  std::vector<int> home_;        // process of each rank when nobody is lost
  std::vector<int> process_of_;  // by rank, as tried last
  std::mutex mutex_;             // guards connected_epoch_
  std::condition_variable changed_;
  int64_t connected_epoch_ = 0;
  std::atomic<int64_t> epoch_{0};  // tried last
  std::unique_ptr<Device> device_;
  std::unique_ptr<ProcessHub> hub_;
  std::unique_ptr<Transport> controller_;
};

}  // namespace tandem
