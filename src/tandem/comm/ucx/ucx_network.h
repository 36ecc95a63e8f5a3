// Messages between processes, on one machine or many: UCX active messages over shared memory, TCP
// or RDMA, whatever UCX finds between two of them.
//
// One thread owns everything of UCX: it makes and closes connections, sends what is queued and
// takes in what comes, while the ranks compute. (UCX 1.13 stops the program where a connection that
// is being set up fails under another thread than its worker's.)
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tandem/comm/envelope.h"

namespace tandem {

class UcxNetwork {
 public:
  struct Settings {
    std::string host = "127.0.0.1";  // to listen on
    double spin_seconds = 20e-6;     // that the thread spins after work before it sleeps
    uint64_t key = 0;                // of the run; messages with another one are dropped
  };
  // Both are called by the network's thread.
  using Deliver = std::function<void(const Envelope&, Message)>;
  // A process is connected, or has been lost, its connection at least.
  using Changed = std::function<void(int process, bool connected)>;

  // For process `self` among `processes`.
  UcxNetwork(int self, int processes, const Settings& settings, Deliver deliver, Changed changed);
  ~UcxNetwork();

  // The rest may be called by any thread.
  // Drops every connection and all that is on its way, and begins with nothing of UCX's state:
  // where a connection has broken, UCX 1.13 counts wrongly who uses what, and may then stop looking
  // at the memory shared with others (its issues 7964 and 9650). The new address of this process.
  // WorldError where UCX cannot be set up.
  std::string renew();
  // Once for each of the others after renew(): both of two processes connect.
  void connect(int process, std::string address);
  // Messages to one process keep their order if they are of one kind; attention's and the
  // controller's go ahead of others that wait (four large ones are under way at once).
  void send(int process, const Envelope& envelope, Message message);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
