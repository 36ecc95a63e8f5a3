// Ranks as threads of one process: a message is a reference to the sender's tensor, put into the
// receiver's queue. Nothing is copied.
#pragma once

#include <memory>
#include <vector>

#include "tandem/comm/transport.h"

namespace tandem {

// The queues of `peers` ranks. Thread safe.
class LocalHub {
 public:
  explicit LocalHub(int peers);
  ~LocalHub();

  // The transport of one rank; the hub must outlive it. A rank that waits spins for
  // `spin_seconds` before it sleeps: worth it only where every rank has a core.
  std::unique_ptr<Transport> connect(int rank, double spin_seconds = 0);
  // From now on every operation with this rank completes with Status::peer_lost.
  void lose(int rank);

 private:
  friend class LocalTransport;
  struct Queue;
  std::vector<std::unique_ptr<Queue>> queues_;
};

}  // namespace tandem
