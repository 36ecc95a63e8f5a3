#include "tandem/world/sim_world.h"

#include <numeric>

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
      devices_(devices_of(plan, cluster, settings.devices)),
      shards_optimizer_(settings.shard_optimizer),
      hub_(cluster, devices_, checked(settings.faults, cluster, plan.ranks())) {
  const int ranks = plan.ranks();
  device_ = make_sim_device(cluster.types[0], routing_, hub_.clock_seconds(ranks));
  controller_ = hub_.connect(ranks);
  hub_.set_runner({.completed =
                       [this](int rank, Operation& operation, double since_seconds) {
                         seats_[rank]->rank->endpoint.completed(operation, since_seconds);
                       },
                   .resume = [this](int rank) { return resume(rank); }});
  if (settings.trainable) shards_ = shards(plan, store.config());
  const Rank::Settings rank_settings{.timeout_seconds = timeout_seconds(),
                                     .trainable = settings.trainable,
                                     .shard_optimizer = settings.shard_optimizer,
                                     .nodes = nodes_of(cluster, devices_),
                                     .shards = settings.trainable ? &shards_ : nullptr};
  const auto shared_plan = std::make_shared<const Plan>(plan);
  for (int number = 0; number < ranks; ++number) {
    Seat& seat = *seats_.emplace_back(std::make_unique<Seat>(number));
    seat.device = make_sim_device(
        type_of(number), routing_, hub_.clock_seconds(number), pace_of(number, settings.faults),
        settings.crowding.empty() ? Crowding{} : settings.crowding.at(number));
    seat.transport = hub_.connect(number);
    seat.rank = std::make_unique<Rank>(shared_plan, number, store, *seat.device, *seat.transport,
                                       seat.recorder, rank_settings);
    seat.recorder.clear();  // what the rank did to set itself up
    hub_.clock_seconds(number) = 0;
    serving_.emplace_back();
    start(number);
  }
}

// Up to where the rank waits for its first command.
void SimWorld::start(int rank) {
  Rank& starting = *seats_[rank]->rank;
  starting.endpoint.resume_later(serving_[rank].emplace(starting.serve()).handle());
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

// Where its device fails the rank is lost instead.
Pace SimWorld::pace_of(int rank, const std::vector<Fault>& faults) {
  Pace pace;
  for (const Fault& fault : faults) {
    const int number = fault.of == Fault::Of::rank     ? rank
                       : fault.of == Fault::Of::device ? devices_[rank]
                                                       : -1;
    if (number != fault.number) continue;
    if (fault.fails())
      hub_.lose_at(rank, fault.at_seconds);
    else
      pace.change(fault.at_seconds, fault.slow);
  }
  return pace;
}

// Ranks that wait let go of what they wait for, then of what they hold, then the hub goes.
SimWorld::~SimWorld() {
  serving_.clear();
  seats_.clear();
}

}  // namespace tandem
