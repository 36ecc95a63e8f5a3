// Ranks on threads of a test, each with an endpoint on the local transport.
#pragma once

#include "comm/transport_conformance.h"
#include "tandem/comm/collectives.h"
#include "tandem/comm/local/local_transport.h"

namespace tandem::test {

struct EndpointSeat {
  EndpointSeat(LocalHub& hub, int rank, double timeout_seconds = 60)
      : recorder(rank),
        device(make_cpu_device(1)),
        transport(hub.connect(rank)),
        endpoint(*transport, recorder, timeout_seconds) {}

  Track track() { return {*device, recorder, Lane::attention, 0}; }
  void run(Task<> task) { endpoint.run({&task, 1}); }
  Tensor numbers(int32_t first) { return device->upload(std::vector<int32_t>{first}, 1, 1); }

  Recorder recorder;
  std::unique_ptr<Device> device;
  std::unique_ptr<Transport> transport;
  Endpoint endpoint;
};

}  // namespace tandem::test
