// Ranks as threads of this process, and the controller's seat behind them.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "tandem/comm/local/local_transport.h"
#include "tandem/world/world.h"

namespace tandem {

struct WorldSettings {
  int threads = 1;  // for the whole process, shared out over the ranks; each has at least one
  bool keep_all_spans = false;  // for the trace of a whole run; else the newest are kept
  Rank::Settings rank;
};

class LocalWorld final : public World {
 public:
  LocalWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings);
  ~LocalWorld() override;  // waits for the ranks

  Transport& controller() override { return *controller_; }
  Device& controller_device() override { return *device_; }
  double timeout_seconds() const override { return settings_.rank.timeout_seconds; }

 private:
  WorldSettings settings_;
  LocalHub hub_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transport> controller_;
  std::vector<std::thread> threads_;
};

}  // namespace tandem
