// "host:port" and what sockets take in its place.
#pragma once

#include <sys/socket.h>

#include <string>
#include <utility>

namespace tandem {

class SocketAddress {
 public:
  // Names are looked up. WorldError where there is no such host.
  SocketAddress(const std::string& host, int port);
  explicit SocketAddress(const std::string& host_and_port);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const { return size_; }

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

// "host:port" in two. InputError where it is not that.
std::pair<std::string, int> split_address(const std::string& address);

std::string address_text(const sockaddr_storage& address);

}  // namespace tandem
