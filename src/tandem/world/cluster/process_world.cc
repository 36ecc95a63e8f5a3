#include "tandem/world/cluster/process_world.h"

#include <algorithm>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/plan_file.h"

namespace tandem {

using nlohmann::json;

json to_json(const WorldOrder& order) {
  const Rank::Settings& rank = order.settings.rank;
  return {{"plan", plan_yaml(order.plan)},
          {"model", config_json(order.model)},
          {"dtype", dtype_name(order.dtype)},
          {"directory", order.directory},
          {"threads", order.settings.threads},
          {"keep_all_spans", order.settings.keep_all_spans},
          {"pace", order.settings.pace},
          {"timeout_seconds", rank.timeout_seconds},
          {"trainable", rank.trainable},
          {"shard_optimizer", rank.shard_optimizer},
          {"nodes", rank.nodes},
          {"processes", order.processes},
          {"key", order.key}};
}

WorldOrder order_from(const json& j) {
  WorldOrder order{.plan = parse_plan(j.at("plan"), "the plan that was sent"),
                   .model = parse_config(j.at("model"), "the model that was sent"),
                   .dtype = parse_dtype(j.at("dtype").get<std::string>()),
                   .directory = j.at("directory"),
                   .processes = j.at("processes"),
                   .key = j.at("key")};
  order.settings = {.threads = j.at("threads"),
                    .keep_all_spans = j.at("keep_all_spans"),
                    .pace = j.at("pace"),
                    .rank = {.timeout_seconds = j.at("timeout_seconds"),
                             .trainable = j.at("trainable"),
                             .shard_optimizer = j.at("shard_optimizer"),
                             .nodes = j.at("nodes")}};
  return order;
}

json to_json(const Membership& membership) {
  return {{"epoch", membership.epoch},
          {"process_of", membership.process_of},
          {"addresses", membership.addresses}};
}

Membership membership_from(const json& j) {
  return {.epoch = j.at("epoch"), .process_of = j.at("process_of"), .addresses = j.at("addresses")};
}

ProcessHub::ProcessHub(int self, int processes, int ranks, const std::string& host, uint64_t key,
                       Observer observer)
    : self_(self),
      observer_(std::move(observer)),
      process_of_(static_cast<size_t>(ranks) + 1),
      hub_(ranks + 1,
           [this](const Envelope& envelope, Message message) {
             network_.send(process_of_[envelope.to], envelope, std::move(message));
           }),
      network_(
          self, processes + 1, {.host = host, .key = key},
          [this](const Envelope& envelope, Message message) {
            hub_.deliver(envelope, std::move(message));
          },
          [this](int process, bool connected) { changed(process, connected); }) {}

std::string ProcessHub::prepare(int64_t epoch) {
  std::string address = network_.renew();
  const std::lock_guard lock(mutex_);
  epoch_ = epoch;
  unconnected_.clear();
  return address;
}

void ProcessHub::begin_epoch(const Membership& membership) {
  std::vector<bool> here;
  for (size_t rank = 0; rank < process_of_.size(); ++rank) {
    process_of_[rank] = membership.process_of[rank];
    here.push_back(membership.process_of[rank] == self_);
  }
  const auto& addresses = membership.addresses;
  bool alone = false;
  {
    const std::lock_guard lock(mutex_);
    for (int process = 0; process < std::ssize(addresses); ++process)
      if (process != self_ && !addresses[process].empty()) unconnected_.insert(process);
    alone = unconnected_.empty();
  }
  // Connected first: what is sent to nobody is dropped.
  for (int process = 0; process < std::ssize(addresses); ++process)
    if (process != self_ && !addresses[process].empty())
      network_.connect(process, addresses[process]);
  hub_.begin_epoch(membership.epoch, here);
  if (alone) observer_.on_connected(membership.epoch);
}

void ProcessHub::changed(int process, bool connected) {
  int64_t epoch = 0;
  bool complete = false;
  {
    const std::lock_guard lock(mutex_);
    epoch = epoch_;
    complete = connected && unconnected_.erase(process) > 0 && unconnected_.empty();
  }
  if (complete) observer_.on_connected(epoch);
  if (connected) return;
  for (int rank = 0; rank < std::ssize(process_of_); ++rank)
    if (process_of_[rank] == process) hub_.lose(rank, epoch);
  observer_.on_lost(epoch);
}

namespace {

std::optional<ParameterStore> load_store(const WorldOrder& order, Device& device) {
  if (order.directory.empty()) return {};
  auto files = std::make_shared<ModelFiles>(order.directory);
  if (files->config() != order.model)
    throw InputError("{}: another model than that of the process that leads", order.directory);
  files->require_all();
  return ParameterStore::load(std::move(files), order.dtype, false, device);
}

}  // namespace

ProcessWorld::ProcessWorld(WorldOrder order, int self, const std::string& host,
                           ProcessHub::Observer observer, OnFailure on_failure)
    : order_(std::move(order)),
      plan_(order_.plan),
      self_(self),
      on_failure_(std::move(on_failure)),
      device_(make_cpu_device(order_.settings.threads)),
      loaded_(load_store(order_, *device_)),
      hub_(self, order_.processes, order_.plan.ranks(), host, order_.key, std::move(observer)) {}

ProcessWorld::~ProcessWorld() { hub_.hub().close(); }

ParameterStore& ProcessWorld::store_of(int rank) {
  if (loaded_) return *loaded_;
  const auto found = sent_.find(rank);
  if (found != sent_.end()) return found->second;
  return sent_.emplace(rank, ParameterStore::blank(order_.model, order_.dtype, *device_))
      .first->second;
}

void ProcessWorld::begin_epoch(const Membership& membership) {
  hub_.begin_epoch(membership);
  std::erase_if(seats_,
                [&](const auto& seat) { return membership.process_of[seat.first] != self_; });
  std::erase_if(sent_, [&](const auto& store) { return !seats_.contains(store.first); });
  const auto& process_of = membership.process_of;
  const auto ranks_here =
      static_cast<int>(std::count(process_of.begin(), process_of.end() - 1, self_));
  int index = 0;
  for (int rank = 0; rank < order_.plan.ranks(); ++rank) {
    if (process_of[rank] != self_) continue;
    const auto threads =
        static_cast<int>(part(order_.settings.threads, ranks_here, index++).size());
    auto& seat = seats_[rank];
    if (seat) continue;
    seat = std::make_unique<OccupiedSeat>(rank, plan_, store_of(rank), order_.settings, threads,
                                          spin_seconds_for(order_.plan.ranks()), hub_.hub(),
                                          on_failure_);
  }
}

}  // namespace tandem
