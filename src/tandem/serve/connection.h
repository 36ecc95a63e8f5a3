// A client's connection as cpp-httplib reads and writes it, with what that leaves open: a request
// has a size and a time limit as a whole, so that neither a slow client nor an endless body holds a
// thread. Used by one thread.
#pragma once

#include <httplib.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace tandem {

struct ConnectionLimits {
  double idle_seconds = 15;         // between requests
  double read_seconds = 30;         // for a whole request
  double write_seconds = 30;        // for the client to take anything at all
  int64_t request_bytes = 8 << 20;  // with its head
};

class Connection final : public httplib::Stream {
 public:
  // The socket must be non-blocking and outlive it.
  Connection(int socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {}

  // False where none comes in time, or the client has gone, or a limit was passed before.
  bool await_request();
  // The head of a request has been read, which announces so many bytes of body; none: it does not
  // tell how many.
  void begin_body(std::optional<uint64_t> bytes) { body_bytes_left_ = bytes; }
  // Reads what nobody has read of the body, which would be taken for the next request. False where
  // it is not known how much that is, or it does not come.
  bool skip_body();
  // Whether the client has closed its side. What it has sent is left alone.
  bool has_gone() const;

  // ---- httplib::Stream; read and write give -1 where a limit is passed or the client has gone
  // ----
  bool is_readable() const override;
  bool is_writable() const override { return !has_gone(); }
  ssize_t read(char* data, size_t bytes) override;
  ssize_t write(const char* data, size_t bytes) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  bool fill(double deadline_seconds);
  bool buffered() const { return begin_ < end_; }

  int socket_;
  ConnectionLimits limits_;
  double deadline_seconds_ = 0;              // of the request that is being read
  int64_t bytes_left_ = 0;                   // likewise
  std::optional<uint64_t> body_bytes_left_;  // likewise
  bool broken_ = false;
  std::array<char, 16384> buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace tandem
