#include "tandem/world/cluster/rank_process.h"

#include <condition_variable>
#include <memory>
#include <optional>
#include <thread>

#include "tandem/base/build_name.h"
#include "tandem/base/clock.h"
#include "tandem/comm/control/channel.h"
#include "tandem/comm/control/handshake.h"
#include "tandem/plan/plan_file.h"
#include "tandem/world/cluster/fleet.h"
#include "tandem/world/cluster/process_world.h"
#include "tandem/world/cluster/span_words.h"

namespace tandem {
namespace {

using nlohmann::json;

constexpr double connect_seconds = 30, handshake_seconds = 10, leader_silent_seconds = 10;

json receive(Channel& channel, double seconds) {
  const auto text = channel.receive(wall_seconds() + seconds);
  if (!text) throw WorldError("the process that leads does not answer");
  return json::parse(*text, nullptr, false);
}

void introduce(Channel& channel, int process, const std::string& secret) {
  const json challenge = receive(channel, handshake_seconds);
  if (!challenge.is_object() || !challenge.contains("nonce"))
    throw InputError("{} is not where a run of Tandem is led from", channel.peer_host());
  const json hello{{"process", process},
                   {"build", std::string(build_name())},
                   {"proof", proof_of(secret, challenge["nonce"], process)}};
  channel.send(hello.dump());
  const json answer = receive(channel, handshake_seconds);
  if (answer.is_object() && answer.contains("refused"))
    throw InputError("process {} was refused: {}", process, answer["refused"].get<std::string>());
}

// Signs of life, whatever the process is busy with.
class Heart {
 public:
  explicit Heart(Channel& channel) : channel_(channel), thread_([this] { beat(); }) {}
  ~Heart() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void beat() {
    std::unique_lock lock(mutex_);
    const auto pause = std::chrono::duration<double>(beat_seconds);
    while (!changed_.wait_for(lock, pause, [&] { return stopped_; })) channel_.send("");
  }
  Channel& channel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::thread thread_;
};

class Member {
 public:
  Member(Channel& channel, int process) : channel_(channel), process_(process) {}

  // False: it is told to go.
  bool obey(const json& message) {
    try {
      if (message.contains("start")) start(message["start"]);
      if (message.contains("plan") && world_)
        world_->adopt(parse_plan(message["plan"], "the plan that was sent"));
      if (message.contains("prepare") && world_) prepare(message["prepare"]);
      if (message.contains("epoch") && world_)
        world_->begin_epoch(membership_from(message["epoch"]));
      if (message.contains("spans"))
        channel_.send(json{{"spans", to_json(world_->recorder(message["spans"]).spans())}}.dump());
      if (message.contains("stop")) {
        world_.reset();
        channel_.send(json{{"stopped", true}}.dump());
      }
    } catch (const std::exception& error) {
      channel_.send(json{{"failed", error.what()}}.dump());
    }
    return !message.contains("quit");
  }

 private:
  void start(const json& order) {
    world_.reset();
    world_ = std::make_unique<ProcessWorld>(
        order_from(order), process_, channel_.local_host(),
        ProcessHub::Observer{.on_connected =
                                 [this](int64_t epoch) {
                                   channel_.send(json{{"connected", epoch}}.dump());
                                 },
                             .on_lost = [this](int64_t epoch) { tell_trouble(epoch, {}); }},
        [this](const Report& report, int64_t epoch) {
          tell_trouble(epoch, report.lost_peer ? std::string() : report.error);
        });
    channel_.send(json{{"ready", true}}.dump());
  }

  void prepare(int64_t epoch) {
    channel_.send(json{{"prepared", epoch}, {"address", world_->prepare(epoch)}}.dump());
  }

  void tell_trouble(int64_t epoch, const std::string& error) {
    json message{{"trouble", true}, {"epoch", epoch}};
    if (!error.empty()) message["trouble"] = error;
    channel_.send(message.dump());
  }

  Channel& channel_;
  int process_;
  std::unique_ptr<ProcessWorld> world_;
};

}  // namespace

void run_rank_process(const std::string& address, int process, const std::string& secret) {
  Channel channel = Channel::connect(address, wall_seconds() + connect_seconds);
  introduce(channel, process, secret);
  const Heart heart(channel);
  Member member(channel, process);
  double heard = wall_seconds();
  for (;;) {
    const auto text = channel.receive(wall_seconds() + 1);
    if (text) heard = wall_seconds();
    if (wall_seconds() - heard > leader_silent_seconds)
      throw WorldError("process {}: the process that leads is silent", process);
    if (!text || text->empty()) continue;
    const json message = json::parse(*text, nullptr, false);
    if (message.is_object() && !member.obey(message)) return;
  }
}

}  // namespace tandem
