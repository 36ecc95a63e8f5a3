#include "tandem/comm/ucx/ucx_network.h"

#include <atomic>
#include <thread>

#include "comm/transport_conformance.h"
#include "tandem/comm/local/local_transport.h"

namespace tandem::test {
namespace {

// All in one process, but each rank with a hub and a network of its own, as processes have.
class UcxTransports final : public TransportWorld {
 public:
  explicit UcxTransports(int ranks) : processes_(static_cast<size_t>(ranks)) {
    for (int rank = 0; rank < ranks; ++rank) {
      Process& p = processes_[rank];
      p.hub = std::make_unique<LocalHub>(ranks, [&p](const Envelope& envelope, Message message) {
        p.network->send(envelope.to, envelope, std::move(message));
      });
      p.network = std::make_unique<UcxNetwork>(
          rank, ranks, UcxNetwork::Settings{.key = 7},
          [&p](const Envelope& envelope, Message message) {
            p.hub->deliver(envelope, std::move(message));
          },
          [&p](int process, bool connected) {
            if (connected)
              p.connections.fetch_add(1);
            else
              p.hub->lose(process, 1);
          });
      p.transport = p.hub->connect(rank);
      std::vector<bool> here(ranks);
      here[rank] = true;
      p.hub->begin_epoch(1, here);
      p.transport->renew();
    }
    std::vector<std::string> addresses;
    for (const Process& p : processes_) addresses.push_back(p.network->renew());
    for (Process& p : processes_)
      for (int peer = 0; peer < ranks; ++peer)
        if (&p != &processes_[peer]) p.network->connect(peer, addresses[peer]);
    for (Process& p : processes_)
      while (p.connections < ranks - 1) std::this_thread::yield();
  }
  ~UcxTransports() override {
    for (Process& p : processes_) p.network.reset();
  }
  Transport& transport(int rank) override { return *processes_[rank].transport; }
  // Its process is gone, and the others are told; messages that had come are still there.
  void lose(int rank) override {
    for (Process& p : processes_)
      if (&p != &processes_[rank]) p.hub->lose(rank, 1);
  }

 private:
  struct Process {
    std::atomic<int> connections{0};
    std::unique_ptr<LocalHub> hub;
    std::unique_ptr<UcxNetwork> network;
    std::unique_ptr<Transport> transport;
  };
  std::vector<Process> processes_;
};

INSTANTIATE_TEST_SUITE_P(Ucx, TransportConformance,
                         ::testing::Values(TransportMaker{
                             "ucx",
                             [](int ranks) { return std::make_unique<UcxTransports>(ranks); }}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace tandem::test
