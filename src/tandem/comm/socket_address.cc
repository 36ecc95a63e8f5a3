#include "tandem/comm/socket_address.h"

#include <netdb.h>

#include <cstring>

#include "tandem/base/error.h"

namespace tandem {

SocketAddress::SocketAddress(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;  // what UCX connects through
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) throw WorldError("host {}: {}", host, gai_strerror(error));
  std::memcpy(&storage_, found->ai_addr, found->ai_addrlen);
  size_ = found->ai_addrlen;
  freeaddrinfo(found);
}

std::pair<std::string, int> split_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  int port = colon + 1 < address.size() && colon != std::string::npos ? 0 : -1;
  for (size_t i = colon + 1; port >= 0 && i < address.size(); ++i) {
    const char digit = address[i];
    port = digit < '0' || digit > '9' || port > 65535 ? -1 : port * 10 + (digit - '0');
  }
  if (port < 0 || port > 65535) throw InputError("address '{}' is not host:port", address);
  return {address.substr(0, colon), port};
}

SocketAddress::SocketAddress(const std::string& address)
    : SocketAddress(split_address(address).first, split_address(address).second) {}

std::string address_text(const sockaddr_storage& address) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  const int error =
      getnameinfo(reinterpret_cast<const sockaddr*>(&address), sizeof(sockaddr_in), host,
                  sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  if (error != 0) throw WorldError("an address of a listener: {}", gai_strerror(error));
  return std::string(host) + ":" + port;
}

}  // namespace tandem
