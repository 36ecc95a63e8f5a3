#include "tandem/comm/sim/sim_hub.h"

#include <algorithm>

#include "tandem/base/error.h"

namespace tandem {

class SimTransport final : public Transport {
 public:
  SimTransport(SimHub& hub, int rank) : hub_(hub), rank_(rank) {}

  int self() const override { return rank_; }
  double now_seconds() const override { return hub_.clock_seconds(rank_); }
  bool send(Operation& operation) override {
    hub_.send(rank_, operation);
    return true;
  }
  bool receive(Operation& operation) override { return hub_.seat(rank_).inbox.receive(operation); }
  void cancel(Operation& operation) override { hub_.seat(rank_).inbox.cancel(operation); }
  Operation* poll(double deadline_seconds) override {
    if (deadline_seconds <= now_seconds()) return hub_.seat(rank_).inbox.next();
    TANDEM_CHECK(rank_ == hub_.controller(), "rank {} polls in virtual time", rank_);
    return hub_.poll();
  }

 private:
  SimHub& hub_;
  int rank_;
};

SimHub::SimHub(const Cluster& cluster, std::vector<int> devices, std::span<const Fault> faults)
    : network_(cluster, faults),
      devices_(std::move(devices)),
      failed_(static_cast<size_t>(cluster.devices())),
      busy_seconds_(failed_.size()) {
  const int peers = static_cast<int>(devices_.size()) + 1;
  seats_.assign(static_cast<size_t>(peers), Seat(peers));
}

std::unique_ptr<Transport> SimHub::connect(int rank) {
  return std::make_unique<SimTransport>(*this, rank);
}

void SimHub::lose_at(int rank, double seconds) { at(seconds, EventKind::lose, rank); }

void SimHub::fail_at(int device, double seconds) { at(seconds, EventKind::fail, device); }

void SimHub::begin_epoch(std::vector<int> devices) {
  devices_ = std::move(devices);
  std::vector<Event> failures;
  for (; !queue_.empty(); queue_.pop())
    if (queue_.top().kind == EventKind::fail) failures.push_back(queue_.top());
  for (const Event& failure : failures) queue_.push(failure);
  flights_.clear(), free_flights_.clear();
  const double now = clock_seconds(controller());
  for (Seat& seat : seats_) {
    seat.inbox.begin(std::vector<bool>(seats_.size()));
    seat.idle = true, seat.lost = false;
    seat.clock_seconds = std::max(seat.clock_seconds, now);
  }
}

void SimHub::send(int from, Operation& operation) {
  const double now = clock_seconds(from);
  operation.status = seat(operation.peer).lost ? Status::peer_lost : Status::ok;
  if (operation.status != Status::ok) return;
  operation.message.sent_seconds = now;
  int index = static_cast<int>(flights_.size());
  if (free_flights_.empty()) {
    flights_.emplace_back();
  } else {
    index = free_flights_.back();
    free_flights_.pop_back();
  }
  flights_[static_cast<size_t>(index)] = {from, operation.peer, operation.tag,
                                          std::move(operation.message)};
  at(now, EventKind::send, index);
}

SimHub::Flight SimHub::take(int index) {
  free_flights_.push_back(index);
  return std::move(flights_[static_cast<size_t>(index)]);
}

// A rank computes ahead of its loss; what it would have sent afterwards never leaves.
void SimHub::depart(int index, double seconds) {
  const Flight& flight = flights_[static_cast<size_t>(index)];
  if (flight.from != controller() && seat(flight.from).lost) {
    take(index);
    return;
  }
  // Neither messages on one device nor the controller's cross the network.
  if (flight.from == controller() || flight.to == controller()) return land(index, seconds);
  const int from = devices_[static_cast<size_t>(flight.from)];
  const int to = devices_[static_cast<size_t>(flight.to)];
  if (from == to) return land(index, seconds);
  const Network::Arrival arrival = network_.arrival(from, to, flight.message.bytes(), seconds);
  at(arrival.seconds, arrival.lost ? EventKind::cut : EventKind::arrive, index);
}

void SimHub::land(int index, double seconds) {
  Flight flight = take(index);
  Seat& to = seat(flight.to);
  if (to.lost) return;
  const bool awaited = to.inbox.deliver(flight.from, flight.tag, std::move(flight.message));
  if (awaited && to.idle) look(flight.to, seconds);
}

// The events have caught up with a rank that has nothing else to do, or its device has.
void SimHub::look(int rank, double seconds) {
  Seat& own = seat(rank);
  if (rank == controller()) {  // poll() goes on
    own.clock_seconds = std::max(own.clock_seconds, seconds);
    return;
  }
  own.idle = false;
  double& busy = busy_seconds_[static_cast<size_t>(devices_[static_cast<size_t>(rank)])];
  if (busy > seconds) return at(busy, EventKind::look, rank);
  double since = own.clock_seconds;
  own.clock_seconds = std::max(own.clock_seconds, seconds);
  while (!own.lost) {
    const double now = own.clock_seconds;
    while (Operation* operation = own.inbox.next()) {
      runner_.completed(rank, *operation, since);
      since = now;
    }
    if (!runner_.resume(rank)) break;
    busy = own.clock_seconds;
    if (own.clock_seconds > now) return at(own.clock_seconds, EventKind::look, rank);
  }
  own.idle = true;
}

void SimHub::lose(int rank, double seconds) {
  seat(rank).lost = true;
  for (int other = 0; other < static_cast<int>(seats_.size()); ++other)
    lose_to(other, rank, seconds);
}

void SimHub::fail(int device, double seconds) {
  failed_[static_cast<size_t>(device)] = true;
  for (int rank = 0; rank < controller(); ++rank) {
    if (devices_[static_cast<size_t>(rank)] != device) continue;
    seat(rank).lost = true;
    lose_at(rank, seconds + silent_seconds);
  }
}

// `rank` learns that nothing will come from the peer any more.
void SimHub::lose_to(int rank, int peer, double seconds) {
  Seat& own = seat(rank);
  own.inbox.lose(peer);
  if (rank != peer && own.idle && own.inbox.has_completed()) look(rank, seconds);
}

void SimHub::handle(const Event& event) {
  ++events_;
  switch (event.kind) {
    case EventKind::send:
      return depart(event.index, event.seconds);
    case EventKind::arrive:
      return land(event.index, event.seconds);
    case EventKind::cut: {
      const Flight flight = take(event.index);
      return lose_to(flight.to, flight.from, event.seconds);
    }
    case EventKind::look:
      return look(event.index, event.seconds);
    case EventKind::lose:
      return lose(event.index, event.seconds);
    case EventKind::fail:
      return fail(event.index, event.seconds);
  }
}

Operation* SimHub::poll() {
  Seat& own = seat(controller());
  while (!own.inbox.has_completed()) {
    if (queue_.empty()) report_deadlock();
    const Event event = queue_.top();
    queue_.pop();
    handle(event);
  }
  return own.inbox.next();
}

void SimHub::report_deadlock() const {
  std::string waiting;
  for (int rank = 0; rank < controller(); ++rank)
    for (const Operation* operation : seats_[static_cast<size_t>(rank)].inbox.posted()) {
      if (seats_[static_cast<size_t>(rank)].lost) break;
      const Tag& tag = operation->tag;
      if (tag.kind == MessageKind::control) continue;
      waiting += fmt::format(
          "; rank {} waits for the {} message of layer {}, micro-batch {}{} from "
          "rank {}",
          rank, message_kind_name(tag.kind), tag.layer, tag.micro_batch,
          tag.backward ? " (backward)" : "", operation->peer);
    }
  throw WorldError("the simulated ranks wait for each other{}", waiting);
}

}  // namespace tandem
