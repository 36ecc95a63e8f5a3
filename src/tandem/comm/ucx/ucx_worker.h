// What a UcxNetwork's thread works on: UCX's worker, its listener and its connections. Used by that
// thread alone.
#pragma once

#include <ucp/api/ucp.h>

#include <array>
#include <deque>
#include <list>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tandem/comm/ucx/ucx_network.h"
#include "tandem/comm/ucx/wire.h"

namespace tandem::ucx {

inline constexpr int transfers_in_flight = 4;  // large messages on their way to one process

class Worker {
 public:
  Worker(int self, int processes, const UcxNetwork::Settings& settings, UcxNetwork::Deliver deliver,
         UcxNetwork::Changed changed);
  ~Worker();

  // Where other machines reach this process, and where its own does: "host:port host:port".
  const std::string& address() const { return address_; }
  int event_descriptor() const { return events_; }

  void connect(int process, std::string address);
  void send(int process, const Envelope& envelope, Message message);
  // Whether anything happened.
  bool progress();
  // True: nothing is to be done before the event descriptor says so.
  bool arm() { return ucp_worker_arm(worker_) == UCS_OK; }

 private:
  struct Waiting {
    Envelope envelope;
    Message message;
  };
  // Of two processes the one with the greater number connects, and its first message says who it
  // is. (Where both connect at once UCX 1.13 stops the program now and then.)
  struct Peer {
    std::string address;  // empty: nobody to talk to
    ucp_ep_h to = nullptr;
    bool connected = false;  // until then what is sent waits here: UCX 1.13 fails to keep it itself
    bool lost = false;       // and will not come back
    int in_flight = 0;
    std::array<std::deque<Waiting>, 2> waiting;  // the first goes first
    uint64_t sent = 0;
    // What comes from it.
    uint64_t delivered = 0;
    std::map<uint64_t, std::pair<Envelope, Message>> early;  // whose predecessors are on their way
  };
  // What UCX reads while a message is on its way.
  struct Sending {
    Worker* owner;
    int process;
    std::array<std::byte, header_bytes> header{};
    Tensor bytes;
    std::array<ucp_dt_iov_t, 2> pieces{};
    std::list<Sending>::iterator self;
  };
  // A large message, which is fetched once there is room for it.
  struct Fetching {
    Worker* owner;
    Tensor bytes;
    ucp_ep_h reply;
    std::list<Fetching>::iterator self;
  };

  std::string listen(const std::string& host);
  bool on_this_machine(const std::string& address) const;
  std::string way_to(const std::string& address) const;
  ucp_ep_params_t endpoint_params();
  void open(int process);
  void close(ucp_ep_h endpoint);
  void let_go(Peer& peer);
  void give_up(int process);
  void drain(Peer& peer, int process);
  void start(Peer& peer, int process, const Waiting& next);
  void look_after_failures();
  // `to`: the part of `room` that the payload comes into; what is before it is there already.
  ucs_status_t fetch(const Tensor& room, std::span<std::byte> to, void* data, ucp_ep_h reply);
  void arrived(const Tensor& bytes, ucp_ep_h reply);
  void met(int process, ucp_ep_h endpoint);
  void connected(int process);

  static void on_connection(ucp_conn_request_h request, void* self);
  static void on_flushed(void* request, ucs_status_t status, void* self);
  static void on_error(void* self, ucp_ep_h endpoint, ucs_status_t status);
  static void on_sent(void* request, ucs_status_t status, void* sending);
  static void on_fetched(void* request, ucs_status_t status, size_t bytes, void* fetching);
  static ucs_status_t on_message(void* self, const void* header, size_t header_size, void* data,
                                 size_t bytes, const ucp_am_recv_param_t* params);

  int self_;
  uint64_t key_;
  UcxNetwork::Deliver deliver_;
  UcxNetwork::Changed changed_;
  std::unique_ptr<Device> device_;  // memory for what comes
  std::vector<Peer> peers_;
  std::vector<ucp_ep_h> accepted_;
  std::vector<ucp_ep_h> failed_;  // told by UCX, to be looked after outside of its calls
  std::list<Sending> sending_;
  std::list<Fetching> fetching_;
  std::map<void*, ucp_ep_h> flushing_;  // requests, by the endpoint that is being connected
  int closing_ = 0;
  std::string address_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  std::vector<ucp_listener_h> listeners_;
  int events_ = -1;
};

}  // namespace tandem::ucx
