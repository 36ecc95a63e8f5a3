#include "tandem/comm/inbox.h"

#include <algorithm>

namespace tandem {

bool Inbox::deliver(int peer, const Tag& tag, Message message) {
  const auto waiting = std::ranges::find_if(
      posted_, [&](const Operation* posted) { return posted->peer == peer && posted->tag == tag; });
  if (waiting == posted_.end()) {
    arrivals_[peer].push_back({tag, std::move(message)});
    return false;
  }
  Operation& receiver = **waiting;
  posted_.erase(waiting);
  receiver.message = std::move(message);
  complete(receiver, Status::ok);
  return true;
}

bool Inbox::receive(Operation& operation) {
  std::vector<Arrival>& of_peer = arrivals_[operation.peer];
  const auto arrived = std::ranges::find(of_peer, operation.tag, &Arrival::tag);
  if (arrived != of_peer.end()) {
    operation.message = std::move(arrived->message);
    of_peer.erase(arrived);
    operation.status = Status::ok;
  } else if (lost_[operation.peer]) {
    operation.status = Status::peer_lost;
  } else {
    operation.status = Status::pending;
    posted_.push_back(&operation);
    return false;
  }
  return true;
}

void Inbox::cancel(Operation& operation) {
  std::erase(completed_, &operation);
  std::erase(posted_, &operation);
  operation.status = Status::cancelled;
}

Operation* Inbox::next() {
  if (completed_.empty()) return nullptr;
  Operation* operation = completed_.front();
  completed_.erase(completed_.begin());
  return operation;
}

void Inbox::lose(int peer) {
  lost_[peer] = true;
  for (size_t i = 0; i < posted_.size();) {
    Operation* operation = posted_[i];
    if (operation->peer == peer) {
      posted_.erase(posted_.begin() + static_cast<std::ptrdiff_t>(i));
      complete(*operation, Status::peer_lost);
    } else {
      ++i;
    }
  }
}

void Inbox::withdraw_all() {
  for (Operation* operation : posted_) complete(*operation, Status::cancelled);
  posted_.clear();
}

void Inbox::begin(const std::vector<bool>& lost) {
  for (std::vector<Arrival>& of_peer : arrivals_) of_peer.clear();
  posted_.clear();
  completed_.clear();
  lost_ = lost;
}

double Inbox::next_deadline_seconds(double otherwise) const {
  for (const Operation* posted : posted_) otherwise = std::min(otherwise, posted->deadline_seconds);
  return otherwise;
}

bool Inbox::expire(double now_seconds) {
  const auto late = std::ranges::find_if(
      posted_, [&](const Operation* posted) { return posted->deadline_seconds <= now_seconds; });
  if (late == posted_.end()) return false;
  Operation& operation = **late;
  posted_.erase(late);
  complete(operation, Status::timed_out);
  return true;
}

}  // namespace tandem
