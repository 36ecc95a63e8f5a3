#include "tandem/world/seat.h"

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/device/paced_device.h"

namespace tandem {

double spin_seconds_for(int ranks) {
  const bool cores_to_spare = ranks < static_cast<int>(std::thread::hardware_concurrency()) + 1;
  return cores_to_spare ? 30e-6 : 0;
}

OccupiedSeat::OccupiedSeat(int number, const CurrentPlan& plan, ParameterStore& store,
                           const WorldSettings& settings, int threads, double spin_seconds,
                           LocalHub& hub, OnFailure on_failure)
    : plan_(plan), store_(store), settings_(settings), seat_(number) {
  if (settings.keep_all_spans) seat_.recorder.keep_all();
  seat_.device = make_cpu_device(threads);
  if (number < std::ssize(settings.pace) && settings.pace[number] > 1)
    seat_.device = make_paced_device(std::move(seat_.device), settings.pace[number]);
  seat_.transport = hub.connect(number, spin_seconds);
  sit_down();
  thread_ = std::thread([this, &hub, on_failure = std::move(on_failure)] { run(hub, on_failure); });
}

void OccupiedSeat::sit_down() {
  seat_.rank = std::make_unique<Rank>(plan_.get(), seat_.recorder.rank(), store_, *seat_.device,
                                      *seat_.transport, seat_.recorder, settings_.rank);
}

void OccupiedSeat::run(LocalHub& hub, const OnFailure& on_failure) {
  do {
    if (seat_.rank->plan != *plan_.get()) sit_down();
    try {
      do {
        Task<> serving = seat_.rank->serve();
        seat_.rank->endpoint.run({&serving, 1});
      } while (seat_.succeed());
      const int64_t epoch = hub.withdraw(seat_.recorder.rank());
      if (on_failure) on_failure(seat_.rank->report, epoch);
    } catch (const EpochOver&) {
    } catch (const PeerLost&) {  // the controller: who comes after it begins an epoch
    }
  } while (seat_.transport->renew());
}

}  // namespace tandem
