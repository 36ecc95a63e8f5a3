// cpp-httplib's server with connections of our own (connection.h): each has a thread, up to a
// limit, and handlers can ask whether their client is still there. Handlers are set as in httplib,
// before start().
#pragma once

#include <httplib.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "tandem/serve/connection.h"

namespace tandem {

struct HttpSettings {
  std::string host = "127.0.0.1";
  int port = 0;  // 0: any
  int connections = 512;
  ConnectionLimits limits;
};

class HttpServer : public httplib::Server {
 public:
  explicit HttpServer(const HttpSettings& settings);
  ~HttpServer() override { stop_serving(); }

  // Listens from now on. InputError where the address cannot be had.
  void start();
  int port() const { return port_; }
  // Ends every connection and waits for its thread; handlers find that their client has gone.
  void stop_serving();

  // Of the request that a handler works on.
  static bool client_has_gone(const httplib::Request& request) {
    return request.progress && !request.progress(0, 0);
  }

 private:
  void accept_connections(const std::stop_token& stop);
  void serve(int socket);
  bool admit(int socket);
  void leave(int socket);

  HttpSettings settings_;
  int port_ = 0;
  std::mutex mutex_;
  std::condition_variable left_;
  std::set<int> sockets_;  // of connections
  std::jthread acceptor_;
};

}  // namespace tandem
