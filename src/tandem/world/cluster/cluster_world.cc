#include "tandem/world/cluster/cluster_world.h"

#include <algorithm>
#include <limits>
#include <thread>

#include "tandem/base/clock.h"
#include "tandem/comm/control/handshake.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/plan_file.h"
#include "tandem/world/cluster/span_words.h"
#include "tandem/world/seating.h"

namespace tandem {

using nlohmann::json;

namespace {

constexpr double start_seconds = 600;  // a large model is read
constexpr double epoch_seconds = 10, stop_seconds = 5;
constexpr int most_epochs = 30;  // tried for one

WorldOrder order_of(const Plan& plan, const ParameterStore& store, const WorldSettings& settings,
                    int processes) {
  WorldOrder order{.plan = plan,
                   .model = store.config(),
                   .dtype = store.weight_dtype(),
                   .settings = settings,
                   .processes = processes,
                   .key = std::stoull(random_hex(8), nullptr, 16)};
  if (!settings.rank.trainable && !store.directory().empty())
    order.directory = std::filesystem::absolute(store.directory());
  if (eight_bits(order.dtype) && order.directory.empty())
    throw InputError("{} weights that are in no model directory cannot be sent to processes",
                     dtype_name(order.dtype));
  return order;
}

}  // namespace

ClusterWorld::ClusterWorld(const Plan& plan, ParameterStore& store, const WorldSettings& settings,
                           Fleet& fleet)
    : fleet_(fleet),
      order_(order_of(plan, store, settings, fleet.processes())),
      parts_(static_cast<size_t>(fleet.processes())),
      home_(first_seats(plan, std::min(plan.ranks(), fleet.processes()))),
      device_(make_cpu_device(1)),
      hub_(std::make_unique<ProcessHub>(
          fleet.processes(), fleet.processes(), plan.ranks(), fleet.host(), order_.key,
          ProcessHub::Observer{.on_connected =
                                   [this](int64_t epoch) {
                                     const std::lock_guard lock(mutex_);
                                     connected_epoch_ = epoch;
                                     changed_.notify_all();
                                   },
                               .on_lost = [this](int64_t) { fleet_.count_loss(); }})),
      controller_(hub_->hub().connect(plan.ranks())) {
  // Whatever has happened, the controller's step is over: recover() finds out more.
  fleet_.on_trouble([this](int64_t epoch) {
    if (epoch >= 0 && epoch != epoch_) return false;
    for (int rank = 0; rank < order_.plan.ranks(); ++rank) hub_->hub().lose(rank, epoch_);
    return true;
  });
  const int64_t losses = fleet_.losses();
  for (int process = 0; process < fleet_.processes(); ++process)
    if (fleet_.alive(process)) start(process);
  const double deadline = wall_seconds() + start_seconds;
  for (int process = 0; process < fleet_.processes(); ++process)
    while (parts_[process].started > parts_[process].ready)
      make_ready(process, fleet_.receive(process, deadline, losses));
  seat_ranks(home_);
}

ClusterWorld::~ClusterWorld() {
  fleet_.on_trouble({});
  for (int process = 0; process < fleet_.processes(); ++process)
    if (parts_[process].started > 0) fleet_.send(process, {{"stop", true}});
  // Connections break where one process stops before another: nobody shall hear of that later.
  for (int process = 0; process < fleet_.processes(); ++process) try {
      const double deadline = wall_seconds() + stop_seconds;
      while (parts_[process].started > 0 &&
             !fleet_.receive(process, deadline, std::numeric_limits<int64_t>::max())
                  .contains("stopped"))
        continue;
    } catch (const WorldError&) {  // it is lost, which the next world will see
    }
  fleet_.trouble();
}

void ClusterWorld::start(int process) {
  parts_[process] = {.started = fleet_.incarnation(process)};
  fleet_.send(process, {{"start", to_json(order_)}});
}

// Unless that is the answer to something else.
void ClusterWorld::make_ready(int process, const json& answer) {
  if (!answer.contains("ready")) return;
  parts_[process].ready = parts_[process].started;
}

bool ClusterWorld::usable(int process) const {
  const Part& p = parts_[process];
  return p.ready > 0 && p.ready == fleet_.incarnation(process);
}

std::vector<int> ClusterWorld::seat_ranks(std::vector<int> process_of) {
  std::vector<int> before = process_of_;
  before.resize(process_of.size(), -1);
  std::vector<bool> moved(process_of.size());
  int tried = 0;
  for (bool stands = false; !stands;) {
    if (++tried > most_epochs) throw WorldError("the processes cannot connect");
    if (tried > 2) std::this_thread::sleep_for(std::chrono::milliseconds(20 * tried));
    fleet_.start_again();
    const int64_t losses = fleet_.losses();  // whoever is lost from here on ends the attempt
    std::vector<bool> alive;
    for (int process = 0; process < fleet_.processes(); ++process) alive.push_back(usable(process));
    if (std::ranges::find(alive, true) == alive.end()) throw WorldError("no process is left");
    process_of = seats_after_loss(order_.plan, process_of, alive);
    for (size_t rank = 0; rank < process_of.size(); ++rank)
      if (process_of[rank] != before[rank]) moved[rank] = true;
    before = process_of;
    stands = try_epoch(process_of, losses);  // else one more was lost, or a connection
  }
  std::vector<int> ranks;
  for (int rank = 0; rank < std::ssize(moved); ++rank)
    if (moved[rank]) ranks.push_back(rank);
  return ranks;
}

bool ClusterWorld::try_epoch(const std::vector<int>& process_of, int64_t losses) {
  process_of_ = process_of;
  Membership membership{.epoch = ++epoch_, .process_of = process_of};
  membership.process_of.push_back(fleet_.processes());  // the controller
  try {
    membership.addresses = prepare(losses);
    const json message{{"epoch", to_json(membership)}};
    for (int process = 0; process < fleet_.processes(); ++process)
      if (!membership.addresses[process].empty()) fleet_.send(process, message);
    hub_->begin_epoch(membership);
    controller_->renew();
    wait_connected(membership, losses);
  } catch (const PeerLost&) {
    return false;
  }
  return true;
}

// Where all are reached in the epoch that is tried. PeerLost.
std::vector<std::string> ClusterWorld::prepare(int64_t losses) {
  std::vector<std::string> addresses(parts_.size());
  for (int process = 0; process < fleet_.processes(); ++process)
    if (usable(process)) fleet_.send(process, {{"prepare", epoch_.load()}});
  addresses.push_back(hub_->prepare(epoch_));
  const double deadline = wall_seconds() + epoch_seconds;
  for (int process = 0; process < fleet_.processes(); ++process)
    while (usable(process) && addresses[process].empty()) {
      const json answer = fleet_.receive(process, deadline, losses);
      if (answer.value("prepared", int64_t{-1}) == epoch_)
        addresses[process] = answer.at("address");
    }
  return addresses;
}

// Until all connections of the epoch stand. PeerLost.
void ClusterWorld::wait_connected(const Membership& membership, int64_t losses) {
  const double deadline = wall_seconds() + epoch_seconds;
  for (int process = 0; process < fleet_.processes(); ++process) {
    if (membership.addresses[process].empty()) continue;
    while (fleet_.receive(process, deadline, losses).value("connected", int64_t{-1}) !=
           membership.epoch)
      continue;
  }
  std::unique_lock lock(mutex_);
  while (connected_epoch_ != membership.epoch) {
    if (fleet_.losses() > losses) throw PeerLost("a process is lost");
    if (wall_seconds() > deadline) throw WorldError("the processes cannot connect");
    changed_.wait_for(lock, std::chrono::milliseconds(50));
  }
}

std::optional<std::vector<int>> ClusterWorld::recover() {
  if (const auto trouble = fleet_.trouble()) throw WorldError("{}", *trouble);
  return seat_ranks(process_of_);
}

std::vector<int> ClusterWorld::take_in() {
  fleet_.start_again();
  bool newcomers = false;
  for (int process = 0; process < fleet_.processes(); ++process) {
    if (usable(process) || !fleet_.alive(process)) continue;
    if (parts_[process].started != fleet_.incarnation(process)) start(process);
    if (const auto answer = fleet_.receive_if_there(process)) {
      make_ready(process, *answer);
      newcomers = newcomers || usable(process);
    }
  }
  return newcomers ? seat_ranks(home_) : std::vector<int>();
}

void ClusterWorld::adopt(const Plan& plan) {
  order_.plan = plan;
  for (int process = 0; process < fleet_.processes(); ++process)
    if (parts_[process].started > 0) fleet_.send(process, {{"plan", plan_yaml(plan)}});
}

std::vector<Span> ClusterWorld::spans(int rank) {
  const int process = process_of_[rank];
  fleet_.send(process, {{"spans", rank}});
  return spans_from(
      fleet_.receive(process, wall_seconds() + epoch_seconds, fleet_.losses()).at("spans"));
}

}  // namespace tandem
