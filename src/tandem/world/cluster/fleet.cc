#include "tandem/world/cluster/fleet.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "tandem/base/build_name.h"
#include "tandem/base/clock.h"
#include "tandem/base/error.h"
#include "tandem/comm/control/handshake.h"
#include "tandem/comm/endpoint.h"

namespace tandem {

using nlohmann::json;

namespace {

constexpr double admission_seconds = 5;
constexpr size_t most_handshake_bytes = 4096;

void refuse(Channel& channel, const std::string& host, const std::string& why) {
  channel.send(json{{"refused", why}}.dump());
  fmt::print(stderr, "tandem: refused a connection from {}: {}\n", host, why);
}

}  // namespace

Fleet::Fleet(const FleetSettings& settings, std::unique_ptr<Starter> starter)
    : settings_(settings),
      starter_(std::move(starter)),
      listener_(settings.host, settings.port),
      members_(static_cast<size_t>(settings.processes)) {
  if (settings_.secret.empty()) settings_.secret = random_hex(16);
  for (int process = 0; process < processes(); ++process)
    starter_->start(process, address(), settings_.secret);
  watcher_ = std::thread([this] { watch(); });
  try {
    wait_for_all();
  } catch (...) {
    stopping_ = true;
    watcher_.join();
    throw;
  }
}

Fleet::~Fleet() {
  stopping_ = true;
  watcher_.join();
  for (int process = 0; process < processes(); ++process)
    if (alive(process)) send(process, {{"quit", true}});
}

void Fleet::wait_for_all() {
  const double deadline = wall_seconds() + settings_.join_seconds;
  double next_word = wall_seconds() + 5;
  std::unique_lock lock(mutex_);
  for (;;) {
    std::string missing;
    for (int process = 0; process < processes(); ++process) {
      if (members_[process].channel) continue;
      if (const auto why = starter_->ended(process))
        throw WorldError("process {} has not joined: {}", process, *why);
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", process);
    }
    if (missing.empty()) return;
    if (wall_seconds() > deadline)
      throw WorldError("process {} has not joined at {} within {:.0f} s", missing, address(),
                       settings_.join_seconds);
    if (wall_seconds() > next_word) {
      next_word += 5;
      fmt::print(stderr, "tandem: waiting at {} for process {}\n", address(), missing);
    }
    changed_.wait_for(lock, std::chrono::milliseconds(100));
  }
}

int64_t Fleet::incarnation(int process) {
  const std::lock_guard lock(mutex_);
  return members_[process].incarnation;
}

void Fleet::send(int process, const json& message) {
  std::shared_ptr<Channel> channel;
  {
    const std::lock_guard lock(mutex_);
    channel = members_[process].channel;
  }
  if (channel) channel->send(message.dump());  // a lost one is noticed by the watcher
}

int64_t Fleet::losses() {
  const std::lock_guard lock(mutex_);
  return losses_;
}

void Fleet::count_loss() {
  const std::lock_guard lock(mutex_);
  ++losses_;
  changed_.notify_all();
}

namespace {

std::optional<json> next_of(std::deque<json>& answers, int process) {
  if (answers.empty()) return std::nullopt;
  json answer = std::move(answers.front());
  answers.pop_front();
  if (answer.contains("failed"))
    throw WorldError("process {}: {}", process, answer["failed"].get<std::string>());
  return answer;
}

}  // namespace

json Fleet::receive(int process, double deadline_seconds, int64_t losses) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (losses_ > losses || !members_[process].channel)
      throw PeerLost("a process is lost while {} is awaited", process);
    if (auto answer = next_of(members_[process].answers, process)) return std::move(*answer);
    if (wall_seconds() > deadline_seconds) throw WorldError("process {} does not answer", process);
    changed_.wait_for(lock, std::chrono::milliseconds(100));
  }
}

std::optional<json> Fleet::receive_if_there(int process) {
  const std::lock_guard lock(mutex_);
  return next_of(members_[process].answers, process);
}

void Fleet::start_again() {
  const std::lock_guard lock(mutex_);
  for (int process = 0; process < processes(); ++process) {
    Member& member = members_[process];
    if (member.channel || std::exchange(member.starting, true)) continue;
    starter_->start(process, address(), settings_.secret);
  }
}

void Fleet::on_trouble(OnTrouble call) {
  const std::lock_guard lock(mutex_);
  on_trouble_ = std::move(call);
}

std::optional<std::string> Fleet::trouble() {
  const std::lock_guard lock(mutex_);
  return std::exchange(trouble_, std::nullopt);
}

void Fleet::watch() {
  // Signals are for the thread that runs the command, which may hold some back.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (!stopping_) {
    std::vector<pollfd> events{{.fd = listener_.descriptor(), .events = POLLIN, .revents = 0}};
    for (const Guest& guest : guests_)
      events.push_back({.fd = guest.channel->descriptor(), .events = POLLIN, .revents = 0});
    {
      const std::lock_guard lock(mutex_);
      for (const Member& member : members_)
        if (member.channel)
          events.push_back({.fd = member.channel->descriptor(), .events = POLLIN, .revents = 0});
    }
    ::poll(events.data(), events.size(), 50);
    let_in();
    hear_guests();
    hear_members();
    beat();
  }
}

void Fleet::let_in() {
  while (const auto socket = listener_.accept()) {
    Guest guest{.channel = std::make_shared<Channel>(*socket),
                .nonce = random_hex(16),
                .deadline_seconds = wall_seconds() + admission_seconds};
    guest.host = guest.channel->peer_host();
    if (guest.channel->send(json{{"nonce", guest.nonce}}.dump()))
      guests_.push_back(std::move(guest));
  }
}

void Fleet::hear_guests() {
  std::erase_if(guests_, [&](const Guest& guest) {
    try {
      const auto text = guest.channel->receive(0, most_handshake_bytes);
      if (!text) {
        if (wall_seconds() < guest.deadline_seconds) return false;
        refuse(*guest.channel, guest.host, "it does not say who it is");
      } else if (const auto why = admit(guest, *text)) {
        refuse(*guest.channel, guest.host, *why);
      }
    } catch (const WorldError& error) {
      refuse(*guest.channel, guest.host, error.what());
    }
    return true;
  });
}

// Why it is not let in, if so.
std::optional<std::string> Fleet::admit(const Guest& guest, const std::string& text) {
  const json hello = json::parse(text, nullptr, false);
  if (!hello.is_object() || !hello.contains("process") || !hello["process"].is_number_integer() ||
      !hello.contains("proof") || !hello["proof"].is_string() || !hello.contains("build") ||
      !hello["build"].is_string())
    return "what it says is no greeting";
  const int process = hello["process"];
  if (hello["proof"] != proof_of(settings_.secret, guest.nonce, process))
    return "it does not know the secret";
  if (hello["build"] != build_name())
    return fmt::format("it is {}, and this is {}", hello["build"].get<std::string>(), build_name());
  if (process < 0 || process >= processes())
    return fmt::format("process {} of {}", process, processes());
  const std::lock_guard lock(mutex_);
  Member& member = members_[process];
  if (member.channel) return fmt::format("there is a process {} already", process);
  if (!guest.channel->send(json{{"welcome", true}}.dump())) return "it has gone again";
  member = {
      .channel = guest.channel, .incarnation = ++incarnations_, .heard_seconds = wall_seconds()};
  changed_.notify_all();
  return std::nullopt;
}

void Fleet::hear_members() {
  for (int process = 0; process < processes(); ++process) {
    std::shared_ptr<Channel> channel;
    double heard = 0;
    {
      const std::lock_guard lock(mutex_);
      channel = members_[process].channel;
      heard = members_[process].heard_seconds;
    }
    if (!channel) continue;
    try {
      while (const auto text = channel->receive(0)) {
        heard = wall_seconds();
        hear(process, *text);
      }
      if (wall_seconds() - heard > settings_.silent_seconds)
        lose(process, fmt::format("silent for {:.1f} s", settings_.silent_seconds));
    } catch (const WorldError& error) {
      lose(process, error.what());
    }
  }
}

void Fleet::hear(int process, const std::string& text) {
  const std::lock_guard lock(mutex_);
  members_[process].heard_seconds = wall_seconds();
  if (text.empty()) return;  // a sign of life
  json message = json::parse(text, nullptr, false);
  if (!message.is_object()) return;
  if (message.contains("trouble")) {
    if (message["trouble"].is_string()) trouble_ = message["trouble"].get<std::string>();
    if (!on_trouble_ || !on_trouble_(message.value("epoch", int64_t{-1}))) return;
    ++losses_;
    changed_.notify_all();
  } else {
    members_[process].answers.push_back(std::move(message));
    changed_.notify_all();
  }
}

void Fleet::lose(int process, const std::string& why) {
  starter_->give_up(process);
  const std::lock_guard lock(mutex_);
  members_[process] = {};
  ++losses_;
  changed_.notify_all();
  if (!stopping_) fmt::print(stderr, "tandem: process {} is lost: {}\n", process, why);
  if (on_trouble_) on_trouble_(-1);
}

void Fleet::beat() {
  if (wall_seconds() < next_beat_seconds_) return;
  next_beat_seconds_ = wall_seconds() + beat_seconds;
  std::vector<std::shared_ptr<Channel>> channels;
  {
    const std::lock_guard lock(mutex_);
    for (const Member& member : members_)
      if (member.channel) channels.push_back(member.channel);
  }
  for (const auto& channel : channels) channel->send("");
}

}  // namespace tandem
