#include "tandem/comm/ucx/ucx_transport.h"

#include "comm/transport_conformance.h"

namespace tandem::test {
namespace {

// All in one process, each with a worker of its own, as processes have.
class UcxTransports final : public TransportWorld {
 public:
  explicit UcxTransports(int ranks) : devices_(static_cast<size_t>(ranks)) {
    for (int rank = 0; rank < ranks; ++rank) {
      devices_[rank] = make_cpu_device(1);
      transports_.push_back(make_ucx_transport(rank, ranks, *devices_[rank]));
    }
    for (const auto& transport : transports_)
      for (int peer = 0; peer < ranks; ++peer)
        transport->set_address(peer, transports_[peer]->address());
  }
  Transport& transport(int rank) override { return *transports_[rank]; }
  void lose(int rank) override {
    transports_[rank].reset();
  }  // by the rank's own thread, or before

 private:
  std::vector<std::unique_ptr<Device>> devices_;
  std::vector<std::unique_ptr<UcxTransport>> transports_;
};

INSTANTIATE_TEST_SUITE_P(Ucx, TransportConformance,
                         ::testing::Values(TransportMaker{
                             "ucx",
                             [](int ranks) { return std::make_unique<UcxTransports>(ranks); }}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace tandem::test
