#include "tandem/comm/ucx/ucx_worker.h"

#include <ucs/debug/log_def.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "tandem/base/clock.h"
#include "tandem/comm/socket_address.h"
#include "tandem/device/cpu/cpu_device.h"

namespace tandem::ucx {
namespace {

constexpr unsigned message_id = 1;
constexpr size_t long_bytes = 512 << 10;  // from here on the receiver is asked first

void check(ucs_status_t status, const char* what) {
  if (status != UCS_OK) throw WorldError("UCX: {}: {}", what, ucs_status_string(status));
}

// UCX writes lines about lost peers, which are ours to report. What stops the program is kept.
ucs_log_func_rc_t drop_log(const char*, unsigned, const char*, ucs_log_level_t level,
                           const ucs_log_component_config_t*, const char*, va_list) {
  return level == UCS_LOG_LEVEL_FATAL ? UCS_LOG_FUNC_RC_CONTINUE : UCS_LOG_FUNC_RC_STOP;
}

// Shared memory is chosen for peers that may die only if it reports errors; a dead peer is asked
// after every 300 ms; messages that are not long go out at once. What the user has set in the
// environment stays.
ucp_context_h make_context() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("UCX_POSIX_ERROR_HANDLING", "y", 0);
    setenv("UCX_SYSV_ERROR_HANDLING", "y", 0);
    setenv("UCX_KEEPALIVE_INTERVAL", "300ms", 0);
    setenv("UCX_RNDV_THRESH", std::to_string(long_bytes).c_str(), 0);
    ucs_log_push_handler(drop_log);
  });
  ucp_config_t* config = nullptr;
  check(ucp_config_read(nullptr, nullptr, &config), "reading its configuration");
  // Processes of one machine connect through its loopback, whatever links the user has named.
  const char* named = std::getenv("UCX_NET_DEVICES");
  const std::string devices = named ? named : "all";
  if (devices != "all" && !devices.starts_with('^'))
    check(ucp_config_modify(config, "NET_DEVICES", (devices + ",lo").c_str()),
          "adding the loopback to UCX_NET_DEVICES");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  ucp_context_h context = nullptr;
  const ucs_status_t status = ucp_init(&params, config, &context);
  ucp_config_release(config);
  check(status, "starting");
  return context;
}

// The lane of Peer::waiting: attention's messages go ahead of the experts'.
size_t lane_of(MessageKind kind) {
  return kind == MessageKind::attention || kind == MessageKind::control ? 0 : 1;
}

}  // namespace

Worker::Worker(int self, int processes, const UcxNetwork::Settings& settings,
               UcxNetwork::Deliver deliver, UcxNetwork::Changed changed)
    : self_(self),
      key_(settings.key),
      deliver_(std::move(deliver)),
      changed_(std::move(changed)),
      device_(make_cpu_device(1)),
      peers_(static_cast<size_t>(processes)) {
  context_ = make_context();
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  check(ucp_worker_create(context_, &params, &worker_), "making a worker");
  check(ucp_worker_get_efd(worker_, &events_), "its event descriptor");
  // A machine reaches itself whatever becomes of its links.
  address_ = listen(settings.host) + " " + listen("127.0.0.1");
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = message_id;
  handler.cb = on_message;
  handler.arg = this;
  check(ucp_worker_set_am_recv_handler(worker_, &handler), "receiving messages");
}

Worker::~Worker() {
  for (const ucp_listener_h listener : listeners_) ucp_listener_destroy(listener);
  for (Peer& peer : peers_) let_go(peer);
  for (const ucp_ep_h from : std::exchange(accepted_, {})) close(from);
  const double until = wall_seconds() + 1;
  while (closing_ > 0 && wall_seconds() < until) ucp_worker_progress(worker_);
  ucp_worker_destroy(worker_);
  ucp_cleanup(context_);
}

std::string Worker::listen(const std::string& host) {
  const SocketAddress any(host, 0);
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr = {any.get(), any.size()};
  params.conn_handler = {on_connection, this};
  check(ucp_listener_create(worker_, &params, &listeners_.emplace_back()), "listening");
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  check(ucp_listener_query(listeners_.back(), &attributes), "asking for the port");
  return address_text(attributes.sockaddr);
}

// Addresses are "host:port host:port": for other machines, for its own.
bool Worker::on_this_machine(const std::string& address) const {
  const auto host = [](const std::string& both) {
    return split_address(both.substr(0, both.find(' '))).first;
  };
  return host(address) == host(address_);
}

std::string Worker::way_to(const std::string& address) const {
  const size_t space = address.find(' ');
  return on_this_machine(address) ? address.substr(space + 1) : address.substr(0, space);
}

void Worker::on_connection(ucp_conn_request_h request, void* self) {
  auto& me = *static_cast<Worker*>(self);
  ucp_ep_params_t params = me.endpoint_params();
  params.field_mask |= UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  ucp_ep_h from = nullptr;
  if (ucp_ep_create(me.worker_, &params, &from) == UCS_OK) me.accepted_.push_back(from);
}

ucp_ep_params_t Worker::endpoint_params() {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_ERR_HANDLER | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler = {on_error, this};
  return params;
}

void Worker::connect(int process, std::string address) {
  Peer& peer = peers_[process];
  // Who has a greater number may have come, and gone, before this process was told of it.
  if (peer.lost) return changed_(process, false);
  peer.address = std::move(address);
  if (peer.connected) return changed_(process, true);
  if (process < self_) open(process);
}

// What is sent to a process while its connection is being made goes out once that stands.
void Worker::open(int process) {
  Peer& peer = peers_[process];
  const SocketAddress where(way_to(peer.address));
  ucp_ep_params_t params = endpoint_params();
  params.field_mask |= UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr = {where.get(), where.size()};
  if (ucp_ep_create(worker_, &params, &peer.to) != UCS_OK) {
    peer.to = nullptr;
    return give_up(process);
  }
  ucp_request_param_t flush{};
  flush.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  flush.cb.send = on_flushed;
  flush.user_data = this;
  void* request = ucp_ep_flush_nbx(peer.to, &flush);
  if (UCS_PTR_IS_PTR(request))
    flushing_[request] = peer.to;
  else if (UCS_PTR_IS_ERR(request))
    failed_.push_back(peer.to);
  else
    connected(process);
}

void Worker::on_flushed(void* request, ucs_status_t status, void* self) {
  auto& me = *static_cast<Worker*>(self);
  const ucp_ep_h endpoint = me.flushing_.at(request);
  me.flushing_.erase(request);
  ucp_request_free(request);
  for (int process = 0; process < std::ssize(me.peers_); ++process) {
    if (me.peers_[process].to != endpoint) continue;
    if (status != UCS_OK) return me.failed_.push_back(endpoint);
    return me.connected(process);
  }
}

// An empty message to nobody tells the other side who has connected.
void Worker::connected(int process) {
  Peer& peer = peers_[process];
  peer.connected = true;
  if (process < self_) start(peer, process, {});
  drain(peer, process);
  changed_(process, true);
}

void Worker::met(int process, ucp_ep_h endpoint) {
  peers_[process].to = endpoint;
  std::erase(accepted_, endpoint);
  connected(process);
}

void Worker::on_error(void* self, ucp_ep_h endpoint, ucs_status_t) {
  static_cast<Worker*>(self)->failed_.push_back(endpoint);
}

void Worker::look_after_failures() {
  for (const ucp_ep_h endpoint : std::exchange(failed_, {})) {
    for (int process = 0; process < std::ssize(peers_); ++process)
      if (peers_[process].to == endpoint) give_up(process);
    if (std::erase(accepted_, endpoint) > 0) close(endpoint);
  }
}

void Worker::give_up(int process) {
  Peer& peer = peers_[process];
  let_go(peer);
  peer.lost = true;
  peer.address.clear();
  changed_(process, false);
}

void Worker::let_go(Peer& peer) {
  if (peer.to) close(std::exchange(peer.to, nullptr));
  peer.connected = false;
  peer.in_flight = 0;
  for (auto& lane : peer.waiting) lane.clear();
}

void Worker::close(ucp_ep_h endpoint) {
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  params.cb.send = [](void* request, ucs_status_t, void* self) {
    --static_cast<Worker*>(self)->closing_;
    ucp_request_free(request);
  };
  params.user_data = this;
  if (UCS_PTR_IS_PTR(ucp_ep_close_nbx(endpoint, &params))) ++closing_;
}

bool Worker::progress() {
  const bool some = ucp_worker_progress(worker_) != 0;
  look_after_failures();
  return some;
}

void Worker::send(int process, const Envelope& envelope, Message message) {
  Peer& peer = peers_[process];
  if (peer.address.empty()) return;  // lost: whoever waits for the answer learns of it
  peer.waiting[lane_of(envelope.tag.kind)].push_back({envelope, std::move(message)});
  drain(peer, process);
}

void Worker::drain(Peer& peer, int process) {
  while (peer.connected && peer.in_flight < transfers_in_flight) {
    auto& lane = peer.waiting[peer.waiting[0].empty() ? 1 : 0];
    if (lane.empty()) return;
    const Waiting next = std::move(lane.front());
    lane.pop_front();
    start(peer, process, next);
  }
}

void Worker::start(Peer& peer, int process, const Waiting& next) {
  Header header = header_of(next.message);
  header.key = key_;
  header.process = self_;
  header.sequence = peer.sent++;
  header.envelope = next.envelope;
  sending_.push_front({.owner = this, .process = process});
  Sending& sending = sending_.front();
  sending.self = sending_.begin();
  std::memcpy(sending.header.data(), &header, sizeof(header));
  sending.bytes = packed(next.message, header, *device_);
  ucp_request_param_t params{};
  params.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.cb.send = on_sent;
  params.user_data = &sending;
  params.flags = UCP_AM_SEND_FLAG_REPLY;  // tells the receiver whose connection this is
  const auto bytes = static_cast<size_t>(header.bytes());
  // Long messages of two pieces UCX copies in portions of 8 KiB: within a machine from cache to
  // cache, twice as fast as in one piece, but over TCP at a fifth of the speed. Short ones lose
  // their length in UCX 1.13 if they have a header of their own.
  void* request = nullptr;
  if (bytes >= long_bytes && !on_this_machine(peer.address)) {
    request = ucp_am_send_nbx(peer.to, message_id, sending.header.data(), sending.header.size(),
                              sending.bytes.data, bytes, &params);
  } else {
    sending.pieces = {ucp_dt_iov_t{sending.header.data(), sending.header.size()},
                      ucp_dt_iov_t{sending.bytes.data, bytes}};
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
    params.datatype = ucp_dt_make_iov();
    request = ucp_am_send_nbx(peer.to, message_id, nullptr, 0, sending.pieces.data(),
                              bytes > 0 ? 2 : 1, &params);
  }
  if (UCS_PTR_IS_PTR(request)) {
    ++peer.in_flight;
    return;
  }
  sending_.pop_front();
  if (UCS_PTR_IS_ERR(request)) failed_.push_back(peer.to);
}

void Worker::on_sent(void* request, ucs_status_t, void* user_data) {
  auto& sending = *static_cast<Sending*>(user_data);
  Worker& me = *sending.owner;
  const int process = sending.process;
  ucp_request_free(request);
  me.sending_.erase(sending.self);
  Peer& peer = me.peers_[process];
  if (!peer.connected) return;
  --peer.in_flight;
  me.drain(peer, process);
}

ucs_status_t Worker::on_message(void* self, const void* header, size_t header_size, void* data,
                                size_t bytes, const ucp_am_recv_param_t* params) {
  auto& me = *static_cast<Worker*>(self);
  const Tensor room =
      me.device_->allocate(1, static_cast<int64_t>(header_size + bytes), DType::fp8);
  if (header_size > 0) std::memcpy(room.data, header, header_size);
  const std::span<std::byte> to(room.data + header_size, bytes);
  const bool known = params->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP;
  const ucp_ep_h reply = known ? params->reply_ep : nullptr;
  if (params->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) return me.fetch(room, to, data, reply);
  std::memcpy(to.data(), data, to.size());
  me.arrived(room, reply);
  return UCS_OK;
}

ucs_status_t Worker::fetch(const Tensor& room, std::span<std::byte> to, void* data,
                           ucp_ep_h reply) {
  fetching_.push_front({.owner = this, .bytes = room, .reply = reply});
  Fetching& fetching = fetching_.front();
  fetching.self = fetching_.begin();
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.recv_am = on_fetched;
  params.user_data = &fetching;
  void* request = ucp_am_recv_data_nbx(worker_, data, to.data(), to.size(), &params);
  if (UCS_PTR_IS_PTR(request)) return UCS_INPROGRESS;
  if (!UCS_PTR_IS_ERR(request)) arrived(room, reply);
  fetching_.pop_front();
  return UCS_OK;
}

void Worker::on_fetched(void* request, ucs_status_t status, size_t, void* user_data) {
  auto& done = *static_cast<Fetching*>(user_data);
  ucp_request_free(request);
  if (status == UCS_OK) done.owner->arrived(done.bytes, done.reply);
  done.owner->fetching_.erase(done.self);
}

// Small messages may overtake large ones: they wait for those before them.
void Worker::arrived(const Tensor& bytes, ucp_ep_h reply) {
  const Header header = header_in(bytes);
  if (header.key != key_ || header.process < 0 || header.process >= std::ssize(peers_)) return;
  Peer& peer = peers_[header.process];
  if (peer.lost) return;
  if (!peer.connected && header.process > self_) met(header.process, reply);
  peer.early.emplace(header.sequence, std::pair{header.envelope, unpacked(header, bytes)});
  for (auto next = peer.early.begin(); next != peer.early.end() && next->first == peer.delivered;
       ++peer.delivered) {
    auto& [envelope, message] = next->second;
    if (envelope.to >= 0) deliver_(envelope, std::move(message));
    next = peer.early.erase(next);
  }
}

}  // namespace tandem::ucx
