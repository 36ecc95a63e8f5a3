// Ranks in virtual time, all on the thread that polls as the controller. What is to happen stands
// in one queue, ordered by time and then by when it was put there: the same run gives the same
// events.
//
// A rank computes ahead of the others: its clock may be later than the last event. It looks for
// messages only when the events have caught up with its clock, and what it sends goes to the
// network at its own time, so cause never follows effect. Ranks that share a device take turns.
#pragma once

#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "tandem/comm/inbox.h"
#include "tandem/comm/sim/network.h"
#include "tandem/comm/transport.h"

namespace tandem {

class SimHub {
 public:
  // devices[rank] is the device of the cluster that a rank sits on. The peer behind the last rank
  // is the controller, which is not part of the cluster: its messages take no time.
  // Of the faults, those of links count: what goes over one that has failed is lost, and its
  // receiver learns that the sender is lost to it.
  SimHub(const Cluster& cluster, std::vector<int> devices, std::span<const Fault> faults = {});

  // The hub must outlive it. Only the controller's may poll().
  std::unique_ptr<Transport> connect(int rank);
  double& clock_seconds(int rank) { return seats_[static_cast<size_t>(rank)].clock_seconds; }
  struct Runner {
    // The operation of a rank is completed, which has waited since then.
    std::function<void(int rank, Operation& operation, double since_seconds)> completed;
    // The rank goes on with one thing that is ready; false: nothing is.
    std::function<bool(int rank)> resume;
  };
  void set_runner(Runner runner) { runner_ = std::move(runner); }
  // From `seconds` on the rank is gone: who waits for it learns so.
  void lose_at(int rank, double seconds);
  // The device falls silent: what sits on it is gone at once, and known to be silent_seconds later.
  void fail_at(int device, double seconds);
  bool failed(int device) const { return failed_[static_cast<size_t>(device)]; }
  // After a loss: ranks sit on these devices and go on from when the controller has learnt of it.
  // What was under way is dropped. No operation may be.
  void begin_epoch(std::vector<int> devices);

  int64_t events() const { return events_; }
  const Network& network() const { return network_; }

 private:
  friend class SimTransport;
  enum class EventKind : uint8_t { send, arrive, cut, look, lose, fail };
  struct Event {
    double seconds;
    int64_t number;
    EventKind kind;
    int index;  // of a flight, a rank or a device
    bool operator>(const Event& other) const {
      return seconds != other.seconds ? seconds > other.seconds : number > other.number;
    }
  };
  struct Flight {
    int from = 0, to = 0;
    Tag tag;
    Message message;
  };
  struct Seat {
    explicit Seat(int peers) : inbox(peers) {}
    double clock_seconds = 0;
    bool idle = true, lost = false;
    Inbox inbox;
  };

  Seat& seat(int rank) { return seats_[static_cast<size_t>(rank)]; }
  int controller() const { return static_cast<int>(seats_.size()) - 1; }
  void at(double seconds, EventKind kind, int index) {
    queue_.push({seconds, numbers_++, kind, index});
  }
  void send(int from, Operation& operation);
  Operation* poll();
  void handle(const Event& event);
  Flight take(int flight);
  void depart(int flight, double seconds);
  void land(int flight, double seconds);
  void look(int rank, double seconds);
  void lose(int rank, double seconds);
  void fail(int device, double seconds);
  void lose_to(int rank, int peer, double seconds);
  [[noreturn]] void report_deadlock() const;

  Network network_;
  std::vector<int> devices_;          // by rank
  std::vector<bool> failed_;          // by device
  std::vector<double> busy_seconds_;  // by device: until then it works for one of its ranks
  std::vector<Seat> seats_;
  std::vector<Flight> flights_;
  std::vector<int> free_flights_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
  Runner runner_;
  int64_t numbers_ = 0, events_ = 0;
};

}  // namespace tandem
