#include "tandem/serve/connection.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "tandem/base/clock.h"

namespace tandem {
namespace {

// Whether the socket is ready for `events`, or broken, before the deadline.
bool wait_for(int socket, short events, double deadline_seconds) {
  for (;;) {
    const double left_seconds = std::clamp(deadline_seconds - wall_seconds(), 0.0, 3600.0);
    pollfd wanted{.fd = socket, .events = events, .revents = 0};
    const int ready = poll(&wanted, 1, static_cast<int>(std::ceil(1e3 * left_seconds)));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void tell(const sockaddr_storage& address, std::string& ip, int& port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    port = ntohs(v6.sin6_port);
  }
  ip = text.data();
}

}  // namespace

bool Connection::await_request() {
  if (broken_ || (!buffered() && !fill(wall_seconds() + limits_.idle_seconds))) return false;
  deadline_seconds_ = wall_seconds() + limits_.read_seconds;
  bytes_left_ = limits_.request_bytes;
  body_bytes_left_.reset();  // unless a head comes that can be read
  return true;
}

bool Connection::fill(double deadline_seconds) {
  for (;;) {
    const ssize_t bytes = recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (bytes > 0) {
      begin_ = 0, end_ = static_cast<size_t>(bytes);
      return true;
    }
    if (bytes == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    if (!wait_for(socket_, POLLIN, deadline_seconds)) return false;
  }
}

bool Connection::has_gone() const {
  char byte = 0;
  const ssize_t bytes = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return bytes == 0 || (bytes < 0 && errno != EAGAIN && errno != EINTR);
}

bool Connection::is_readable() const {
  return buffered() || wait_for(socket_, POLLIN, deadline_seconds_);
}

ssize_t Connection::read(char* data, size_t bytes) {
  broken_ = broken_ || bytes_left_ <= 0 || (!buffered() && !fill(deadline_seconds_));
  if (broken_) return -1;
  const size_t taken = std::min({bytes, end_ - begin_, static_cast<size_t>(bytes_left_)});
  std::memcpy(data, buffer_.data() + begin_, taken);
  begin_ += taken;
  bytes_left_ -= static_cast<int64_t>(taken);
  if (body_bytes_left_) *body_bytes_left_ -= std::min<uint64_t>(*body_bytes_left_, taken);
  return static_cast<ssize_t>(taken);
}

bool Connection::skip_body() {
  std::array<char, 4096> unread;
  while (body_bytes_left_ && *body_bytes_left_ > 0)
    if (read(unread.data(), std::min<uint64_t>(unread.size(), *body_bytes_left_)) < 0) return false;
  return body_bytes_left_.has_value();
}

ssize_t Connection::write(const char* data, size_t bytes) {
  const double deadline_seconds = wall_seconds() + limits_.write_seconds;
  for (;;) {
    const ssize_t written = send(socket_, data, bytes, MSG_NOSIGNAL);
    if (written >= 0) return written;
    if (errno != EAGAIN && errno != EINTR) return -1;
    if (!wait_for(socket_, POLLOUT, deadline_seconds)) return -1;
  }
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    tell(address, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    tell(address, ip, port);
}

}  // namespace tandem
