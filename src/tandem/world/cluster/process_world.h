// The part of a world that sits in one process of a fleet: its hub, its network, its weights, its
// ranks. Told what to be by the process that leads, in JSON.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tandem/comm/ucx/ucx_network.h"
#include "tandem/world/seat.h"

namespace tandem {

// What every process of a world is told at its start.
struct WorldOrder {
  Plan plan;
  ModelConfig model;
  DType dtype = DType::f32;
  std::string directory;  // of the weights; empty: they are sent
  WorldSettings settings;
  int processes = 1;
  uint64_t key = 0;
};
nlohmann::json to_json(const WorldOrder& order);
WorldOrder order_from(const nlohmann::json& json);

// Who is where, from an epoch on.
struct Membership {
  int64_t epoch = 0;
  std::vector<int> process_of;         // by rank, and of the controller behind them
  std::vector<std::string> addresses;  // by process, and of the controller's behind them
};
nlohmann::json to_json(const Membership& membership);
Membership membership_from(const nlohmann::json& json);

// A hub whose ranks reach those of other processes: what ProcessWorld and the leading process
// share.
class ProcessHub {
 public:
  // `on_connected` is told, by the network's thread, when all connections of an epoch stand, and
  // `on_lost` when one of them breaks.
  struct Observer {
    std::function<void(int64_t epoch)> on_connected, on_lost;
  };
  ProcessHub(int self, int processes, int ranks, const std::string& host, uint64_t key,
             Observer observer);

  LocalHub& hub() { return hub_; }
  // Ends what is under way between processes. Where this one is reached in the epoch that is to
  // begin.
  std::string prepare(int64_t epoch);
  void begin_epoch(const Membership& membership);

 private:
  void changed(int process, bool connected);

  int self_;
  Observer observer_;
  std::vector<std::atomic<int>> process_of_;
  std::mutex mutex_;  // guards what follows
  int64_t epoch_ = 0;
  std::set<int> unconnected_;  // processes
  LocalHub hub_;
  UcxNetwork network_;
};

class ProcessWorld {
 public:
  // InputError where the weights cannot be read.
  ProcessWorld(WorldOrder order, int self, const std::string& host, ProcessHub::Observer observer,
               OnFailure on_failure);
  ~ProcessWorld();

  std::string prepare(int64_t epoch) { return hub_.prepare(epoch); }
  void begin_epoch(const Membership& membership);
  void adopt(const Plan& plan) { plan_.set(plan); }
  // Of a rank that sits here; read only between commands.
  Recorder& recorder(int rank) { return seats_.at(rank)->seat().recorder; }

 private:
  ParameterStore& store_of(int rank);

  WorldOrder order_;
  CurrentPlan plan_;
  int self_;
  OnFailure on_failure_;
  std::unique_ptr<Device> device_;
  // Weights read from files are there for all ranks of this process; those that are sent, and
  // change with training, each rank has for itself: no two write to the same memory.
  std::optional<ParameterStore> loaded_;
  std::map<int, ParameterStore> sent_;  // by rank
  ProcessHub hub_;
  std::map<int, std::unique_ptr<OccupiedSeat>> seats_;  // by rank
};

}  // namespace tandem
