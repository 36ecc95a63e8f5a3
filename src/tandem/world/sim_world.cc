#include "tandem/world/sim_world.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "tandem/plan/layout.h"
#include "tandem/runtime/optimizer.h"
#include "tandem/world/seating.h"

namespace tandem {
namespace {

std::vector<int> devices_of(const Plan& plan, const Cluster& cluster, std::vector<int> devices) {
  if (devices.empty()) {
    devices.resize(static_cast<size_t>(plan.ranks()));
    std::iota(devices.begin(), devices.end(), 0);
  }
  if (static_cast<int>(devices.size()) != plan.ranks())
    throw InputError("{} devices for the {} ranks of plan {}", devices.size(), plan.ranks(),
                     plan.name);
  std::vector<bool> used(static_cast<size_t>(cluster.devices()));
  for (size_t rank = 0; rank < devices.size(); ++rank) {
    const int device = devices[rank];
    if (!cluster.has_device(device))
      throw InputError("plan {}: rank {} sits on device {}, cluster {} has {}", plan.name, rank,
                       device, cluster.name, cluster.devices());
    if (used[static_cast<size_t>(device)])
      throw InputError("plan {}: two ranks sit on device {}", plan.name, device);
    used[static_cast<size_t>(device)] = true;
  }
  return devices;
}

const std::vector<Fault>& checked(const std::vector<Fault>& faults, const Cluster& cluster,
                                  int ranks) {
  for (const Fault& fault : faults) check(fault, cluster, ranks);
  return faults;
}

std::vector<int> nodes_of(const Cluster& cluster, const std::vector<int>& devices) {
  std::vector<int> nodes;
  for (const int device : devices) nodes.push_back(cluster.node_of(device));
  return nodes;
}

}  // namespace

SimWorld::SimWorld(const Plan& plan, ParameterStore& store, const Cluster& cluster,
                   const SimSettings& settings)
    : cluster_(cluster),
      routing_(settings.routing),
      crowding_(settings.crowding),
      devices_(devices_of(plan, cluster, settings.devices)),
      paces_(static_cast<size_t>(cluster.devices())),
      plan_(std::make_shared<const Plan>(plan)),
      store_(store),
      rank_settings_{.timeout_seconds = timeout_seconds(),
                     .trainable = settings.trainable,
                     .shard_optimizer = settings.shard_optimizer,
                     .nodes = nodes_of(cluster, devices_)},
      hub_(cluster, devices_, checked(settings.faults, cluster, plan.ranks())) {
  const int ranks = plan.ranks();
  device_ = make_sim_device(cluster.types[0], routing_, hub_.clock_seconds(ranks));
  controller_ = hub_.connect(ranks);
  hub_.set_runner({.completed =
                       [this](int rank, Operation& operation, double since_seconds) {
                         seats_[rank]->rank->endpoint.completed(operation, since_seconds);
                       },
                   .resume = [this](int rank) { return resume(rank); }});
  plan_failures(settings.faults);
  if (settings.trainable) {
    shards_ = shards(plan, store.config());
    rank_settings_.shards = &shards_;
  }
  serving_.resize(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    Seat& seat = *seats_.emplace_back(std::make_unique<Seat>(rank));
    seat.transport = hub_.connect(rank);
    sit_down(rank);
    seat.recorder.clear();  // what the rank did to set itself up
    hub_.clock_seconds(rank) = 0;
    start(rank);
  }
}

void SimWorld::plan_failures(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    if (!fault.of_device()) continue;
    const int device = fault.of == Fault::Of::rank ? devices_[fault.number] : fault.number;
    if (fault.fails())
      hub_.fail_at(device, fault.at_seconds);
    else
      paces_[device].change(fault.at_seconds, fault.slow);
  }
}

void SimWorld::sit_down(int rank) {
  Seat& seat = *seats_[rank];
  seat.rank.reset();
  seat.device =
      make_sim_device(type_of(rank), routing_, hub_.clock_seconds(rank), paces_[devices_[rank]],
                      crowding_.empty() ? Crowding{} : crowding_.at(rank));
  seat.rank = std::make_unique<Rank>(plan_, rank, store_, *seat.device, *seat.transport,
                                     seat.recorder, rank_settings_);
}

// Up to where the rank waits for its first command.
void SimWorld::start(int rank) {
  Rank& starting = *seats_[rank]->rank;
  starting.endpoint.start(serving_[rank].emplace(starting.serve()).handle());
  starting.endpoint.resume_one();
}

bool SimWorld::resume(int rank) {
  Seat& seat = *seats_[rank];
  if (!seat.rank->endpoint.resume_one()) return false;
  if (!serving_[rank]->done()) return true;
  serving_[rank].reset();
  if (seat.succeed())
    start(rank);
  else  // whoever waits for a rank that has given up shall not wait in vain
    hub_.lose_at(rank, hub_.clock_seconds(rank));
  return true;
}

std::optional<std::vector<int>> SimWorld::recover() {
  std::vector<bool> alive;
  for (int device = 0; device < cluster_.devices(); ++device) alive.push_back(!hub_.failed(device));
  const std::vector<int> before = devices_;
  std::set<int> lost;
  for (const int device : before)
    if (hub_.failed(device)) lost.insert(device);
  if (lost.empty() || std::ranges::none_of(alive, std::identity{})) return std::nullopt;
  lost_devices_ += static_cast<int>(lost.size());
  devices_ = seats_after_loss(*plan_, before, alive);
  for (auto& serving : serving_) serving.reset();
  hub_.begin_epoch(devices_);
  std::vector<int> moved;
  for (int rank = 0; rank < plan_->ranks(); ++rank) {
    if (devices_[rank] != before[rank]) {
      moved.push_back(rank);
      sit_down(rank);
    } else if (*seats_[rank]->rank->shared_plan != *plan_) {
      sit_down(rank);
    }
  }
  load(moved);
  for (int rank = 0; rank < plan_->ranks(); ++rank) start(rank);
  return moved;
}

// Ranks in new seats read their weights, but for what their device has; in training all go back to
// the last checkpoint. Those of one node read one after another.
void SimWorld::load(const std::vector<int>& moved) {
  std::vector<bool> loaded(seats_.size(), !rank_settings_.trainable);
  for (const int rank : moved) loaded[static_cast<size_t>(rank)] = false;
  std::vector<double> read_bytes(cluster_.nodes.size());
  for (int rank = 0; rank < plan_->ranks(); ++rank) {
    if (loaded[static_cast<size_t>(rank)]) continue;
    const auto node = static_cast<size_t>(cluster_.node_of(devices_[rank]));
    const double bytes_per_second = cluster_.nodes[node].storage_bytes_per_second;
    read_bytes[node] += static_cast<double>(bytes_to_read(rank, loaded));
    if (bytes_per_second > 0) hub_.clock_seconds(rank) += read_bytes[node] / bytes_per_second;
    loaded[static_cast<size_t>(rank)] = true;
  }
}

int64_t SimWorld::bytes_to_read(int rank, const std::vector<bool>& loaded) const {
  std::vector<Region> wanted = holdings(*plan_, store_.config(), rank);
  for (int other = 0; other < plan_->ranks(); ++other) {
    if (!loaded[static_cast<size_t>(other)] || devices_[other] != devices_[rank]) continue;
    const std::vector<Region> there = holdings(*plan_, store_.config(), other);
    std::erase_if(wanted, [&](const Region& region) {
      return std::ranges::any_of(there, [&](const Region& r) { return r.contains(region); });
    });
  }
  const auto& optimizer = seats_[rank]->rank->optimizer;
  return weight_bytes(wanted, store_.weight_dtype()) + (optimizer ? optimizer->bytes() : 0);
}

// Ranks that wait let go of what they wait for, then of what they hold, then the hub goes.
SimWorld::~SimWorld() {
  serving_.clear();
  seats_.clear();
}

}  // namespace tandem
