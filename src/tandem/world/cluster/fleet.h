// The processes of a run, as the one that leads it sees them: it listens at one address, lets those
// in that know the secret, and notices within `silent_seconds` when one has gone. A process that
// was given up and wakes again finds its connection closed.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tandem/comm/control/channel.h"
#include "tandem/comm/transport.h"

namespace tandem {

inline constexpr double beat_seconds = 0.2;  // between signs of life, both ways

// Starts processes, somewhere.
class Starter {
 public:
  virtual ~Starter() = default;
  // That process shall join at `address` and know the secret. May do nothing where somebody else
  // starts it. WorldError where it cannot be started.
  virtual void start(int process, const std::string& address, const std::string& secret) = 0;
  // Why a process will not come (any more), if that is known.
  virtual std::optional<std::string> ended(int process) = 0;
  // A process that has been given up is not to wake again.
  virtual void give_up(int process) = 0;
};

struct FleetSettings {
  int processes = 1;
  std::string host = "127.0.0.1";  // to listen on
  int port = 0;
  std::string secret;  // drawn where empty; needed where others than this machine can connect
  double silent_seconds = tandem::silent_seconds;
  double join_seconds = 60;
};

class Fleet {
 public:
  // Starts all processes and waits for them. WorldError naming those that have not come in time.
  Fleet(const FleetSettings& settings, std::unique_ptr<Starter> starter);
  ~Fleet();  // tells them to go

  int processes() const { return static_cast<int>(members_.size()); }
  const std::string& address() const { return listener_.address(); }
  const std::string& host() const { return settings_.host; }

  // ---- used by the leading thread ----
  bool alive(int process) { return incarnation(process) > 0; }
  // Tells apart processes that have had the same number; 0: nobody has it now.
  int64_t incarnation(int process);
  void send(int process, const nlohmann::json& message);
  // How often a process has been lost, or a connection between two.
  int64_t losses();
  // Another one, which the leading process has noticed itself. Thread safe.
  void count_loss();
  // The next answer of a process. WorldError where it says "failed" or is late, PeerLost where
  // there have been more than so many `losses`.
  nlohmann::json receive(int process, double deadline_seconds, int64_t losses);
  // The same, without waiting.
  std::optional<nlohmann::json> receive_if_there(int process);
  // Lost ones are started again; they join when they are there.
  void start_again();
  // Called by the fleet's thread when a process is lost (epoch -1) or tells of trouble in an epoch:
  // whether that still counts. None: empty. It must not call the fleet.
  using OnTrouble = std::function<bool(int64_t epoch)>;
  void on_trouble(OnTrouble call);
  // An error that a process has told of since this was last asked, if it is not the loss of a peer.
  std::optional<std::string> trouble();

 private:
  struct Member {
    std::shared_ptr<Channel> channel;  // null: has not joined, or is lost
    int64_t incarnation = 0;
    double heard_seconds = 0;
    std::deque<nlohmann::json> answers;
    bool starting = false;
  };
  struct Guest {  // has not said who it is
    std::shared_ptr<Channel> channel;
    std::string host, nonce;
    double deadline_seconds = 0;
  };

  void watch();
  void wait_for_all();
  void let_in();
  void hear_guests();
  std::optional<std::string> admit(const Guest& guest, const std::string& text);
  void hear_members();
  void hear(int process, const std::string& text);
  void lose(int process, const std::string& why);
  void beat();

  FleetSettings settings_;
  std::unique_ptr<Starter> starter_;
  Listener listener_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Member> members_;
  OnTrouble on_trouble_;
  std::optional<std::string> trouble_;
  int64_t losses_ = 0, incarnations_ = 0;
  // Of the fleet's thread alone.
  std::vector<Guest> guests_;
  double next_beat_seconds_ = 0;
  std::atomic<bool> stopping_{false};
  std::thread watcher_;
};

}  // namespace tandem
