#include "tandem/comm/control/channel.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "tandem/base/clock.h"
#include "tandem/base/error.h"
#include "tandem/comm/socket_address.h"

namespace tandem {
namespace {

// In front of every text: who does not begin so is a stranger.
struct Prefix {
  std::array<char, 4> name{'T', 'n', 'd', 'm'};
  uint32_t bytes = 0;
};

// Whether it is ready by the deadline.
bool wait_for(int socket, short events, double deadline_seconds) {
  for (;;) {
    const double left = std::max(0.0, deadline_seconds - wall_seconds());
    pollfd one{.fd = socket, .events = events, .revents = 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::ceil(std::min(left, 3600.0) * 1e3)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // reading tells what is wrong
    if (ready == 0 && wall_seconds() >= deadline_seconds) return false;
  }
}

int new_socket() {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) throw_errno("a socket");
  return socket;
}

void set(int socket, int level, int option) {
  const int on = 1;
  setsockopt(socket, level, option, &on, sizeof(on));
}

template <class Ask>
std::string host_of(int socket, Ask ask) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (ask(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "?";
  const std::string text = address_text(address);
  return text.substr(0, text.rfind(':'));
}

}  // namespace

Channel Channel::connect(const std::string& address, double deadline_seconds) {
  const SocketAddress where(address);
  for (;;) {
    Channel channel(new_socket());
    if (::connect(channel.socket_, where.get(), where.size()) == 0) {
      set(channel.socket_, IPPROTO_TCP, TCP_NODELAY);
      return channel;
    }
    if (wall_seconds() >= deadline_seconds) throw_errno("no connection to " + address);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Channel::Channel(Channel&& other) noexcept
    : socket_(std::exchange(other.socket_, -1)), received_(std::move(other.received_)) {}

Channel::~Channel() {
  if (socket_ >= 0) ::close(socket_);
}

bool Channel::send(const std::string& text) {
  const std::lock_guard lock(sending_);
  const Prefix prefix{.bytes = static_cast<uint32_t>(text.size())};
  std::string all(reinterpret_cast<const char*>(&prefix), sizeof(prefix));
  all += text;
  const double deadline = wall_seconds() + 1;
  for (size_t sent = 0; sent < all.size();) {
    const ssize_t some =
        ::send(socket_, all.data() + sent, all.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (some > 0)
      sent += static_cast<size_t>(some);
    else if (errno == EAGAIN ? !wait_for(socket_, POLLOUT, deadline) : errno != EINTR)
      return false;
  }
  return true;
}

// More of what the peer has sent; false where nothing comes by the deadline.
bool Channel::fill(double deadline_seconds) {
  if (!wait_for(socket_, POLLIN, deadline_seconds)) return false;
  std::array<char, 1 << 16> some;
  const ssize_t got = ::recv(socket_, some.data(), some.size(), MSG_DONTWAIT);
  if (got == 0) throw WorldError("the connection has been closed");
  if (got < 0 && errno != EAGAIN && errno != EINTR) throw_errno("the connection");
  if (got > 0) received_.append(some.data(), static_cast<size_t>(got));
  return true;
}

std::optional<std::string> Channel::receive(double deadline_seconds, size_t most_bytes) {
  for (;;) {
    Prefix prefix;
    const size_t known = std::min(received_.size(), prefix.name.size());
    if (std::memcmp(received_.data(), prefix.name.data(), known) != 0)
      throw WorldError("what it sends is not Tandem's");
    if (received_.size() >= sizeof(prefix)) {
      std::memcpy(&prefix, received_.data(), sizeof(prefix));
      if (prefix.bytes > most_bytes)
        throw WorldError("a message of {} bytes, where at most {} make sense", prefix.bytes,
                         most_bytes);
      if (received_.size() >= sizeof(prefix) + prefix.bytes) {
        std::string text = received_.substr(sizeof(prefix), prefix.bytes);
        received_.erase(0, sizeof(prefix) + prefix.bytes);
        return text;
      }
    }
    if (!fill(deadline_seconds)) return std::nullopt;
  }
}

std::string Channel::local_host() const { return host_of(socket_, getsockname); }
std::string Channel::peer_host() const { return host_of(socket_, getpeername); }

Listener::Listener(const std::string& host, int port) : socket_(new_socket()) {
  const SocketAddress where(host, port);
  set(socket_, SOL_SOCKET, SO_REUSEADDR);
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::bind(socket_, where.get(), where.size()) != 0 || ::listen(socket_, 1024) != 0 ||
      getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    const std::string reason = std::strerror(errno);
    ::close(socket_);
    throw InputError("cannot listen on {}:{}: {}", host, port, reason);
  }
  fcntl(socket_, F_SETFL, O_NONBLOCK);
  address_ = address_text(address);
}

Listener::~Listener() { ::close(socket_); }

std::optional<int> Listener::accept() const {
  const int socket = ::accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
  if (socket < 0) return std::nullopt;
  set(socket, IPPROTO_TCP, TCP_NODELAY);
  return socket;
}

}  // namespace tandem
