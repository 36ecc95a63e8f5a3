// A TCP connection that carries short texts, each whole or not at all: how processes meet, agree on
// who is who, and notice that one has gone. What ranks tell each other goes through a Transport.
#pragma once

#include <mutex>
#include <optional>
#include <string>

namespace tandem {

class Channel {
 public:
  // Connects to "host:port", tries again until it is there or the time is up. WorldError then.
  static Channel connect(const std::string& address, double deadline_seconds);
  explicit Channel(int socket) : socket_(socket) {}
  Channel(Channel&& other) noexcept;
  Channel& operator=(Channel&&) = delete;
  ~Channel();

  // Thread safe. False where the peer is gone or takes nothing for a second.
  bool send(const std::string& text);
  // The next text; nothing where none is there by the deadline. WorldError where the peer is gone
  // or what it sends is not a text of ours or longer than `most_bytes`. For one thread.
  std::optional<std::string> receive(double deadline_seconds, size_t most_bytes = size_t{1} << 28);
  // Whether a whole text may be there without waiting; for poll().
  int descriptor() const { return socket_; }
  // Of this end and of the other, as numbers.
  std::string local_host() const;
  std::string peer_host() const;

 private:
  bool fill(double deadline_seconds);

  int socket_;
  std::mutex sending_;
  std::string received_;  // what has come of the next text
};

// A socket that waits for connections on "host:port" (port 0: any), and its address in full.
// InputError where it cannot.
class Listener {
 public:
  explicit Listener(const std::string& host, int port);
  Listener(const Listener&) = delete;
  ~Listener();
  const std::string& address() const { return address_; }
  int descriptor() const { return socket_; }
  // The connection that waits, or nothing.
  std::optional<int> accept() const;

 private:
  int socket_;
  std::string address_;
};

}  // namespace tandem
