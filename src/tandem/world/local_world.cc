#include "tandem/world/local_world.h"

#include <algorithm>

#include "tandem/device/cpu/cpu_device.h"

namespace tandem {

LocalWorld::LocalWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings)
    : settings_(settings), hub_(plan.ranks() + 1), device_(make_cpu_device(1)) {
  const int ranks = plan.ranks();
  // A waiting rank may spin for a moment where nobody else needs its core.
  const bool cores_to_spare = ranks < static_cast<int>(std::thread::hardware_concurrency()) + 1;
  const double spin_seconds = cores_to_spare ? 30e-6 : 0;
  controller_ = hub_.connect(ranks);
  for (int number = 0; number < ranks; ++number) {
    auto& seat = seats_.emplace_back(std::make_unique<Seat>(number));
    if (settings.keep_all_spans) seat->recorder.keep_all();
    seat->device = make_cpu_device(static_cast<int>(part(settings.threads, ranks, number).size()));
    seat->transport = hub_.connect(number, spin_seconds);
    seat->rank = std::make_unique<Rank>(plan, number, store, *seat->device, *seat->transport,
                                        seat->recorder, settings.rank);
  }
  for (auto& seat : seats_)
    threads_.emplace_back([this, seat = seat.get()] {
      Task<> serving = seat->rank->serve();
      seat->rank->endpoint.run({&serving, 1});
      hub_.lose(seat->rank->endpoint.self());  // whoever waits for it shall not wait in vain
    });
}

LocalWorld::~LocalWorld() {
  const std::vector<int32_t> words = to_words(Command{.kind = CommandKind::stop});
  for (int rank = 0; rank < static_cast<int>(seats_.size()); ++rank) {
    Operation stop{.peer = rank};
    stop.message.parts[0] = device_->upload(words, 1, static_cast<int64_t>(words.size()));
    (void)controller_->send(stop);  // a rank that is gone needs no telling
  }
  for (std::thread& thread : threads_) thread.join();
  seats_.clear();  // before the hub
}

}  // namespace tandem
