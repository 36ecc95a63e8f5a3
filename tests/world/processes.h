// Fleets for tests: processes of the program, here.
#pragma once

#include <signal.h>

#include <memory>

#include "tandem/world/cluster/cluster_world.h"
#include "tandem/world/cluster/process_starter.h"
#include "tandem/world/engine.h"

namespace tandem::test {

// Long enough that no busy machine makes a process seem lost.
inline constexpr double never_silent_seconds = 60;

class Processes {
 public:
  explicit Processes(int count, double silent_seconds = never_silent_seconds) {
    auto starter = std::make_unique<ProcessStarter>(
        TANDEM_PROGRAM, std::vector<ProcessPlace>(static_cast<size_t>(count)));
    starter_ = starter.get();
    fleet_ = std::make_unique<Fleet>(
        FleetSettings{.processes = count, .silent_seconds = silent_seconds}, std::move(starter));
  }
  Fleet& fleet() { return *fleet_; }
  MakeWorld world(bool trainable = false) {
    return [this, trainable](const Plan& plan, ParameterStore& store) {
      return std::make_unique<ClusterWorld>(
          plan, store, WorldSettings{.rank = {.timeout_seconds = 60, .trainable = trainable}},
          *fleet_);
    };
  }
  void send_signal(int process, int number) {
    const pid_t pid = starter_->pid(process);
    if (pid > 0) ::kill(pid, number);
  }
  void kill(int process) { send_signal(process, SIGKILL); }

 private:
  ProcessStarter* starter_;
  std::unique_ptr<Fleet> fleet_;
};

}  // namespace tandem::test
