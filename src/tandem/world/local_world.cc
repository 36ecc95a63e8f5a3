#include "tandem/world/local_world.h"

#include "tandem/device/cpu/cpu_device.h"

namespace tandem {

LocalWorld::LocalWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings)
    : plan_(plan), settings_(settings), hub_(plan.ranks() + 1), device_(make_cpu_device(1)) {
  const int ranks = plan.ranks();
  controller_ = hub_.connect(ranks);
  for (int number = 0; number < ranks; ++number) {
    const auto threads = static_cast<int>(part(settings.threads, ranks, number).size());
    seats_.push_back(std::make_unique<OccupiedSeat>(number, plan_, store, settings_, threads,
                                                    spin_seconds_for(ranks), hub_, OnFailure{}));
  }
}

LocalWorld::~LocalWorld() { hub_.close(); }

MakeWorld local_world(const WorldSettings& settings) {
  return [settings](const Plan& plan, ParameterStore& store) {
    return std::make_unique<LocalWorld>(plan, store, settings);
  };
}

}  // namespace tandem
