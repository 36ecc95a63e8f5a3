// "host:port" and what sockets take in its place.
#pragma once

#include <sys/socket.h>

#include <string>

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

std::string address_text(const sockaddr_storage& address);

}  // namespace tandem
