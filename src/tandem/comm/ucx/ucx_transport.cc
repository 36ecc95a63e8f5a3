#include "tandem/comm/ucx/ucx_transport.h"

#include <arpa/inet.h>
#include <poll.h>
#include <ucp/api/ucp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "tandem/base/clock.h"
#include "tandem/comm/inbox.h"
#include "tandem/comm/ucx/socket_address.h"
#include "tandem/comm/ucx/wire.h"

namespace tandem {
namespace {

constexpr unsigned message_id = 1;

void check(ucs_status_t status, const char* what) {
  if (status != UCS_OK) throw WorldError("UCX: {}: {}", what, ucs_status_string(status));
}

// Shared memory is chosen for peers that may die only if it reports errors; a dead peer is asked
// after every 300 ms. What the user has set in the environment stays.
ucp_context_h make_context() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("UCX_POSIX_ERROR_HANDLING", "y", 0);
    setenv("UCX_SYSV_ERROR_HANDLING", "y", 0);
    setenv("UCX_KEEPALIVE_INTERVAL", "300ms", 0);
  });
  ucp_config_t* config = nullptr;
  check(ucp_config_read(nullptr, nullptr, &config), "reading its configuration");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  ucp_context_h context = nullptr;
  const ucs_status_t status = ucp_init(&params, config, &context);
  ucp_config_release(config);
  check(status, "starting");
  return context;
}

class Transporter final : public UcxTransport {
 public:
  Transporter(int self, int peers, Device& device, const UcxSettings& settings)
      : self_(self),
        device_(device),
        settings_(settings),
        inbox_(peers),
        peers_(static_cast<size_t>(peers)) {
    context_ = make_context();
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
    check(ucp_worker_create(context_, &params, &worker_), "making a worker");
    check(ucp_worker_get_efd(worker_, &wake_), "its event descriptor");
    listen();
    ucp_am_handler_param_t handler{};
    handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                         UCP_AM_HANDLER_PARAM_FIELD_ARG;
    handler.id = message_id;
    handler.cb = on_message;
    handler.arg = this;
    check(ucp_worker_set_am_recv_handler(worker_, &handler), "receiving messages");
    background_ = std::thread([this] { progress_in_background(); });
  }

  ~Transporter() override {
    stopping_ = true;
    background_.join();
    ucp_listener_destroy(listener_);
    for (Peer& peer : peers_) close(peer.to);
    for (ucp_ep_h& from : accepted_) close(from);
    const double until = now_seconds() + 1;
    while (closing_ > 0 && now_seconds() < until) ucp_worker_progress(worker_);
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
  }

  int self() const override { return self_; }
  double now_seconds() const override { return wall_seconds(); }
  std::string address() const override { return address_; }

  void set_address(int peer, const std::string& address) override {
    const std::lock_guard lock(mutex_);
    Peer& p = peers_[peer];
    if (p.address == address) return;
    close(p.to);
    p = {.address = address};
    inbox_.find(peer);
  }

  void lose(int peer) override {
    const std::lock_guard lock(mutex_);
    give_up(peer);
  }

  bool send(Operation& operation) override {
    const std::lock_guard lock(mutex_);
    operation.message.sent_seconds = now_seconds();
    operation.status = Status::ok;
    if (operation.peer == self_) {
      inbox_.deliver(self_, operation.tag, std::move(operation.message));
      return true;
    }
    if (inbox_.lost(operation.peer) || !connect(operation.peer)) {
      operation.status = Status::peer_lost;
      return true;
    }
    Peer& peer = peers_[operation.peer];
    if (peer.connected) return start(operation);
    operation.status = Status::pending;
    peer.waiting.push_back(&operation);
    return false;
  }

  bool receive(Operation& operation) override {
    const std::lock_guard lock(mutex_);
    if (inbox_.receive(operation)) return true;
    // Whether a peer is there at all shows when it is connected to.
    if (operation.peer != self_ && !connect(operation.peer)) give_up(operation.peer);
    return false;
  }

  // A send may be half on its way: its memory stays until UCX lets go of it.
  void cancel(Operation& operation) override {
    const std::lock_guard lock(mutex_);
    for (Sending& sending : sending_)
      if (sending.operation == &operation) sending.operation = nullptr;
    std::erase(peers_[operation.peer].waiting, &operation);
    inbox_.cancel(operation);
  }

  Operation* poll(double deadline_seconds) override {
    double spin_until = now_seconds() + settings_.spin_seconds;
    std::unique_lock lock(mutex_);
    for (;;) {
      while (ucp_worker_progress(worker_) != 0) spin_until = now_seconds() + settings_.spin_seconds;
      if (Operation* operation = inbox_.next()) return operation;
      const double now = now_seconds();
      const double until = next_deadline_seconds(deadline_seconds);
      if (now >= until) {
        if (!expire(now)) return nullptr;
      } else if (now >= spin_until && ucp_worker_arm(worker_) == UCS_OK) {
        lock.unlock();
        sleep(until - now);
        lock.lock();
      }
    }
  }

 private:
  struct Peer {
    std::string address;
    ucp_ep_h to = nullptr;   // made when first needed
    bool connected = false;  // until then what is sent waits here: UCX 1.13 fails to keep it itself
    std::vector<Operation*> waiting;
    uint64_t sent = 0, delivered = 0;
    std::map<uint64_t, std::pair<Tag, Message>> early;  // whose predecessors are still on their way
  };
  // What UCX reads while a message is on its way.
  struct Sending {
    Transporter* owner;
    Operation* operation;
    std::array<std::byte, ucx::header_bytes> header{};
    Tensor bytes;
    std::array<ucp_dt_iov_t, 2> pieces{};
    std::list<Sending>::iterator self;
  };
  // A large message, which is fetched once there is room for it.
  struct Fetching {
    Transporter* owner;
    Tensor bytes;
    std::list<Fetching>::iterator self;
  };

  void give_up(int number) {
    Peer& peer = peers_[number];
    close(peer.to);
    peer.connected = false;
    peer.early.clear();
    for (Operation* operation : std::exchange(peer.waiting, {}))
      inbox_.complete(*operation, Status::peer_lost);
    inbox_.lose(number);
  }

  void listen() {
    SocketAddress any(settings_.host, 0);
    ucp_listener_params_t params{};
    params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
    params.sockaddr = {any.get(), any.size()};
    params.conn_handler = {on_connection, this};
    check(ucp_listener_create(worker_, &params, &listener_), "listening");
    ucp_listener_attr_t attributes{};
    attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
    check(ucp_listener_query(listener_, &attributes), "asking for the port");
    address_ = address_text(attributes.sockaddr);
  }

  static void on_connection(ucp_conn_request_h request, void* self) {
    auto& me = *static_cast<Transporter*>(self);
    ucp_ep_params_t params = me.endpoint_params();
    params.field_mask |= UCP_EP_PARAM_FIELD_CONN_REQUEST;
    params.conn_request = request;
    ucp_ep_h from = nullptr;
    if (ucp_ep_create(me.worker_, &params, &from) == UCS_OK) me.accepted_.push_back(from);
  }

  ucp_ep_params_t endpoint_params() {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler = {on_error, this};
    return params;
  }

  // False where that cannot even begin.
  bool connect(int number) {
    Peer& peer = peers_[number];
    if (peer.to) return true;
    if (peer.address.empty()) return false;
    SocketAddress where(peer.address);
    ucp_ep_params_t params = endpoint_params();
    params.field_mask |= UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
    params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
    params.sockaddr = {where.get(), where.size()};
    if (ucp_ep_create(worker_, &params, &peer.to) != UCS_OK) return false;
    ucp_request_param_t flush{};
    flush.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    flush.cb.send = on_flushed;
    flush.user_data = this;
    void* request = ucp_ep_flush_nbx(peer.to, &flush);
    if (UCS_PTR_IS_PTR(request))
      flushing_[request] = peer.to;
    else
      peer.connected = request == nullptr;
    return !UCS_PTR_IS_ERR(request);
  }

  static void on_flushed(void* request, ucs_status_t status, void* self) {
    auto& me = *static_cast<Transporter*>(self);
    const auto flushed = me.flushing_.find(request);
    const ucp_ep_h endpoint = flushed == me.flushing_.end() ? nullptr : flushed->second;
    me.flushing_.erase(request);
    ucp_request_free(request);
    for (int number = 0; endpoint && number < static_cast<int>(me.peers_.size()); ++number) {
      Peer& peer = me.peers_[number];
      if (peer.to != endpoint) continue;
      if (status != UCS_OK) return me.give_up(number);
      peer.connected = true;
      for (Operation* operation : std::exchange(peer.waiting, {}))
        if (me.start(*operation)) me.inbox_.complete(*operation, operation->status);
      return;
    }
  }

  static void on_error(void* self, ucp_ep_h endpoint, ucs_status_t) {
    auto& me = *static_cast<Transporter*>(self);
    const auto sender = me.senders_.find(endpoint);
    const int number = sender == me.senders_.end() ? -1 : sender->second;
    for (int peer = 0; peer < static_cast<int>(me.peers_.size()); ++peer)
      if (me.peers_[peer].to == endpoint || peer == number) me.give_up(peer);
    if (std::erase(me.accepted_, endpoint) > 0) me.close(endpoint);
    me.senders_.erase(endpoint);
  }

  void close(ucp_ep_h& endpoint) {
    if (!endpoint) return;
    ucp_request_param_t params{};
    params.op_attr_mask =
        UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    params.flags = UCP_EP_CLOSE_FLAG_FORCE;
    params.cb.send = [](void* request, ucs_status_t, void* self) {
      --static_cast<Transporter*>(self)->closing_;
      ucp_request_free(request);
    };
    params.user_data = this;
    if (UCS_PTR_IS_PTR(ucp_ep_close_nbx(endpoint, &params))) ++closing_;
    endpoint = nullptr;
  }

  bool start(Operation& operation) {
    Peer& peer = peers_[operation.peer];
    if (!peer.to) {
      operation.status = Status::peer_lost;
      return true;
    }
    ucx::Header header = ucx::header_of(operation.message);
    header.sender = self_;
    header.sequence = peer.sent++;
    header.tag = operation.tag;
    Sending& sending = sending_.emplace_front(this, &operation);
    sending.self = sending_.begin();
    std::memcpy(sending.header.data(), &header, sizeof(header));
    sending.bytes = ucx::packed(operation.message, header, device_);
    sending.pieces = {ucp_dt_iov_t{sending.header.data(), sending.header.size()},
                      ucp_dt_iov_t{sending.bytes.data, static_cast<size_t>(header.bytes())}};
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                          UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_DATATYPE;
    params.cb.send = on_sent;
    params.user_data = &sending;
    params.flags = UCP_AM_SEND_FLAG_REPLY;  // tells the receiver whose connection this is
    params.datatype = ucp_dt_make_iov();
    void* request = ucp_am_send_nbx(peer.to, message_id, nullptr, 0, sending.pieces.data(),
                                    header.bytes() > 0 ? 2 : 1, &params);
    if (UCS_PTR_IS_PTR(request)) {
      operation.status = Status::pending;
      return false;
    }
    sending_.pop_front();
    if (UCS_PTR_IS_ERR(request)) {
      give_up(operation.peer);
      operation.status = Status::peer_lost;
    }
    return true;
  }

  static void on_sent(void* request, ucs_status_t status, void* user_data) {
    auto& sending = *static_cast<Sending*>(user_data);
    Transporter& me = *sending.owner;
    ucp_request_free(request);
    if (sending.operation)
      me.inbox_.complete(*sending.operation, status == UCS_OK ? Status::ok : Status::peer_lost);
    me.sending_.erase(sending.self);
  }

  static ucs_status_t on_message(void* self, const void*, size_t, void* data, size_t bytes,
                                 const ucp_am_recv_param_t* params) {
    auto& me = *static_cast<Transporter*>(self);
    const Tensor room = me.device_.allocate(1, static_cast<int64_t>(bytes), DType::fp8);
    if (params->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) return me.fetch(room, data);
    std::memcpy(room.data, data, bytes);
    const int sender = me.arrived(room);
    if (sender >= 0 && (params->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP))
      me.senders_[params->reply_ep] = sender;
    return UCS_OK;
  }

  ucs_status_t fetch(const Tensor& room, void* data) {
    Fetching& fetching = fetching_.emplace_front(this, room);
    fetching.self = fetching_.begin();
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    params.cb.recv_am = [](void* request, ucs_status_t status, size_t, void* user_data) {
      auto& done = *static_cast<Fetching*>(user_data);
      ucp_request_free(request);
      if (status == UCS_OK) done.owner->arrived(done.bytes);
      done.owner->fetching_.erase(done.self);
    };
    params.user_data = &fetching;
    void* request =
        ucp_am_recv_data_nbx(worker_, data, room.data, static_cast<size_t>(room.cols), &params);
    if (UCS_PTR_IS_PTR(request)) return UCS_INPROGRESS;
    if (!UCS_PTR_IS_ERR(request)) arrived(room);
    fetching_.pop_front();
    return UCS_OK;
  }

  // Who has sent this, or -1 where nobody can have. Small messages may overtake large ones: they
  // wait for those before them.
  int arrived(const Tensor& bytes) {
    const ucx::Header header = ucx::header_in(bytes);
    if (header.sender < 0 || header.sender >= static_cast<int>(peers_.size())) return -1;
    if (inbox_.lost(header.sender)) return header.sender;
    Peer& peer = peers_[header.sender];
    peer.early.emplace(header.sequence, std::pair{header.tag, ucx::unpacked(header, bytes)});
    for (auto next = peer.early.begin(); next != peer.early.end() && next->first == peer.delivered;
         ++peer.delivered) {
      auto& [tag, message] = next->second;
      inbox_.deliver(header.sender, tag, std::move(message));
      next = peer.early.erase(next);
    }
    return header.sender;
  }

  double next_deadline_seconds(double until) const {
    for (const Sending& sending : sending_)
      if (sending.operation) until = std::min(until, sending.operation->deadline_seconds);
    for (const Peer& peer : peers_)
      for (const Operation* operation : peer.waiting)
        until = std::min(until, operation->deadline_seconds);
    return inbox_.next_deadline_seconds(until);
  }

  bool expire(double now) {
    for (Sending& sending : sending_) {
      if (!sending.operation || sending.operation->deadline_seconds > now) continue;
      inbox_.complete(*sending.operation, Status::timed_out);
      sending.operation = nullptr;
      return true;
    }
    for (Peer& peer : peers_)
      for (Operation* operation : peer.waiting) {
        if (operation->deadline_seconds > now) continue;
        std::erase(peer.waiting, operation);
        inbox_.complete(*operation, Status::timed_out);
        return true;
      }
    return inbox_.expire(now);
  }

  // Until UCX has something to do.
  void sleep(double seconds) const {
    pollfd wake{.fd = wake_, .events = POLLIN, .revents = 0};
    ::poll(&wake, 1, static_cast<int>(std::ceil(std::min(seconds, 1.0) * 1e3)));
  }

  // Messages move on and peers get their answers while the rank computes and does not poll.
  void progress_in_background() {
    constexpr double pause_seconds = 0.005;
    while (!stopping_) {
      {
        const std::lock_guard lock(mutex_);
        while (ucp_worker_progress(worker_) != 0) continue;
        if (ucp_worker_arm(worker_) != UCS_OK) continue;
      }
      sleep(pause_seconds);
    }
  }

  int self_;
  Device& device_;
  UcxSettings settings_;
  Inbox inbox_;
  std::vector<Peer> peers_;
  std::vector<ucp_ep_h> accepted_;
  std::map<ucp_ep_h, int> senders_;  // of what comes through an accepted endpoint
  std::list<Sending> sending_;
  std::list<Fetching> fetching_;
  std::map<void*, ucp_ep_h> flushing_;  // requests, by the endpoint that is being connected
  int closing_ = 0;
  std::string address_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_listener_h listener_ = nullptr;
  int wake_ = -1;
  std::mutex mutex_;  // guards everything above, between the rank's thread and the one below
  std::atomic<bool> stopping_{false};
  std::thread background_;
};

}  // namespace

std::unique_ptr<UcxTransport> make_ucx_transport(int self, int peers, Device& device,
                                                 const UcxSettings& settings) {
  return std::make_unique<Transporter>(self, peers, device, settings);
}

}  // namespace tandem
