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
      hub_(cluster, devices_) {
  const int ranks = plan.ranks();
  device_ = make_sim_device(cluster.types[0], routing_, hub_.clock_seconds(ranks));
  controller_ = hub_.connect(ranks);
  hub_.set_runner([this](int rank, Operation& operation, double since_seconds) {
    Seat& seat = *seats_[rank];
    seat.rank->endpoint.completed(operation, since_seconds);
    seat.rank->endpoint.proceed();
    // Whoever waits for a rank that has given up shall not wait in vain.
    if (serving_[rank].done()) hub_.lose_at(rank, hub_.clock_seconds(rank));
  });
  const Rank::Settings rank_settings{.timeout_seconds = timeout_seconds(),
                                     .trainable = settings.trainable,
                                     .shard_optimizer = settings.shard_optimizer,
                                     .nodes = nodes_of(cluster, devices_)};
  for (int number = 0; number < ranks; ++number) {
    Seat& seat = *seats_.emplace_back(std::make_unique<Seat>(number));
    seat.device = make_sim_device(type_of(number), routing_, hub_.clock_seconds(number));
    seat.transport = hub_.connect(number);
    seat.rank = std::make_unique<Rank>(plan, number, store, *seat.device, *seat.transport,
                                       seat.recorder, rank_settings);
    seat.recorder.clear();  // what the rank did to set itself up
    hub_.clock_seconds(number) = 0;
    serving_.push_back(seat.rank->serve());
    seat.rank->endpoint.resume_later(serving_.back().handle());
    seat.rank->endpoint.proceed();
  }
}

// Ranks that wait let go of what they wait for, then of what they hold, then the hub goes.
SimWorld::~SimWorld() {
  serving_.clear();
  seats_.clear();
}

}  // namespace tandem
