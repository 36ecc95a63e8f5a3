// Ranks as processes, on one machine or many: UCX active messages over shared memory, TCP or RDMA,
// whatever UCX finds between two peers. A peer is lost when UCX says so (its process is gone, its
// connection broken) or when whoever watches over peers does, by lose().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tandem/comm/transport.h"
#include "tandem/device/device.h"

namespace tandem {

class UcxTransport : public Transport {
 public:
  // Where peers reach this one, "host:port"; known once it exists.
  virtual std::string address() const = 0;
  // Peers are connected to when first sent to. An address that changes is a new peer in the place
  // of a lost one.
  virtual void set_address(int peer, const std::string& address) = 0;
  // Gives a peer up: every operation with it fails, what it still sends is dropped.
  virtual void lose(int peer) = 0;
};

struct UcxSettings {
  std::string host = "127.0.0.1";  // to listen on
  double spin_seconds = 30e-6;     // that a rank which waits spins before it sleeps
};

// For rank `self` among `peers`. Messages that come are put into memory of `device`, which must
// outlive it. Used by one thread at a time. WorldError where UCX cannot be set up.
std::unique_ptr<UcxTransport> make_ucx_transport(int self, int peers, Device& device,
                                                 const UcxSettings& settings = {});

}  // namespace tandem
