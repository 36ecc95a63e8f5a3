// Connections to a server, byte by byte.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

namespace tandem::test {

// A connection without any manners.
class RawClient {
 public:
  explicit RawClient(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { close(socket_); }
  RawClient(const RawClient&) = delete;

  void send(const std::string& text) const {
    [[maybe_unused]] const auto sent = ::send(socket_, text.data(), text.size(), MSG_NOSIGNAL);
  }
  // Until the server closes, or `enough` has come.
  std::string receive(const std::string& enough = "\xff\xff") const {
    std::string all;
    std::array<char, 4096> buffer;
    while (all.find(enough) == std::string::npos) {
      const ssize_t bytes = recv(socket_, buffer.data(), buffer.size(), 0);
      if (bytes <= 0) break;
      all.append(buffer.data(), static_cast<size_t>(bytes));
    }
    return all;
  }

 private:
  int socket_;
};

}  // namespace tandem::test
