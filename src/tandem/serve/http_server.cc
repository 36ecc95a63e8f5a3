#include "tandem/serve/http_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "tandem/base/error.h"
#include "tandem/serve/api_error.h"

namespace tandem {
namespace {

constexpr int listen_backlog = 1024;

void refuse(int socket) {
  const std::string body = dump(ApiError(503, "too many connections are open").json());
  const std::string answer = fmt::format(
      "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
      "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
      body.size(), body);
  [[maybe_unused]] const ssize_t sent = send(socket, answer.data(), answer.size(), MSG_NOSIGNAL);
}

std::optional<uint64_t> body_bytes(const httplib::Request& request) {
  if (request.has_header("Transfer-Encoding")) return {};
  return request.get_header_value<uint64_t>("Content-Length");
}

}  // namespace

HttpServer::HttpServer(const HttpSettings& settings) : settings_(settings) {
  if (settings.port < 0 || settings.port > 65535)
    throw InputError("--port {}: must be from 0 to 65535", settings.port);
  if (settings.connections < 1)
    throw InputError("--connections {}: must be at least 1", settings.connections);
  set_payload_max_length(static_cast<size_t>(settings.limits.request_bytes));
  set_keep_alive_timeout(static_cast<time_t>(settings.limits.idle_seconds));
  set_tcp_nodelay(true);
  // Unlike the library's own, a second server does not get half of the first one's connections.
  set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
}

void HttpServer::start() {
  port_ = settings_.port;
  errno = 0;
  const bool bound = settings_.port == 0 ? (port_ = bind_to_any_port(settings_.host)) > 0
                                         : bind_to_port(settings_.host, settings_.port);
  if (!bound)
    throw InputError("--host {} --port {}: cannot be listened on ({})", settings_.host,
                     settings_.port, errno ? std::strerror(errno) : "no such address");
  ::listen(svr_sock_, listen_backlog);  // the library's is 5
  acceptor_ = std::jthread([this](const std::stop_token& stop) { accept_connections(stop); });
}

void HttpServer::accept_connections(const std::stop_token& stop) {
  constexpr int look_milliseconds = 50;
  while (!stop.stop_requested()) {
    pollfd wanted{.fd = svr_sock_, .events = POLLIN, .revents = 0};
    if (poll(&wanted, 1, look_milliseconds) <= 0) continue;
    const int socket = accept4(svr_sock_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0) {
      // Out of descriptors, say: the connection stays in the queue until some are free again.
      std::this_thread::sleep_for(std::chrono::milliseconds(look_milliseconds));
      continue;
    }
    if (!admit(socket)) {
      refuse(socket);
      close(socket);
      continue;
    }
    try {
      std::thread([this, socket] { serve(socket); }).detach();
    } catch (const std::system_error&) {  // no more threads
      refuse(socket);
      leave(socket);
    }
  }
}

bool HttpServer::admit(int socket) {
  const std::lock_guard lock(mutex_);
  if (std::ssize(sockets_) >= settings_.connections) return false;
  sockets_.insert(socket);
  return true;
}

void HttpServer::leave(int socket) {
  const std::lock_guard lock(mutex_);
  shutdown(socket, SHUT_RDWR);
  close(socket);
  sockets_.erase(socket);
  left_.notify_all();
}

void HttpServer::serve(int socket) {
  const int yes = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  Connection connection(socket, settings_.limits);
  const auto prepare = [&connection](httplib::Request& request) {
    connection.begin_body(body_bytes(request));
    request.progress = [&connection](uint64_t, uint64_t) { return !connection.has_gone(); };
    request.headers.erase("Accept-Encoding");  // compressed streams would come late
  };
  bool closes = false;
  while (!closes && connection.await_request())
    if (!process_request(connection, false, closes, prepare) || !connection.skip_body()) break;
  leave(socket);
}

void HttpServer::stop_serving() {
  if (!acceptor_.joinable()) return;
  acceptor_.request_stop();
  acceptor_.join();
  {
    std::unique_lock lock(mutex_);
    for (const int socket : sockets_) shutdown(socket, SHUT_RDWR);
    // They use this object. Handlers look for their client several times a second.
    left_.wait(lock, [&] { return sockets_.empty(); });
  }
  close(svr_sock_.exchange(INVALID_SOCKET));
}

}  // namespace tandem
