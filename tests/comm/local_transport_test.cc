#include "tandem/comm/local/local_transport.h"

#include "comm/transport_conformance.h"

namespace tandem::test {
namespace {

class LocalTransports final : public TransportWorld {
 public:
  LocalTransports(int ranks, double spin_seconds) : hub_(ranks) {
    for (int rank = 0; rank < ranks; ++rank)
      transports_.push_back(hub_.connect(rank, spin_seconds));
  }
  Transport& transport(int rank) override { return *transports_[rank]; }
  void lose(int rank) override { hub_.lose(rank, 0); }

 private:
  LocalHub hub_;
  std::vector<std::unique_ptr<Transport>> transports_;
};

TransportMaker maker(const char* name, double spin_seconds) {
  return {name, [=](int ranks) { return std::make_unique<LocalTransports>(ranks, spin_seconds); }};
}

INSTANTIATE_TEST_SUITE_P(Local, TransportConformance,
                         ::testing::Values(maker("sleeping", 0), maker("spinning", 30e-6)),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(LocalTransport, NothingIsCopied) {
  LocalTransports world(2, 0);
  Seat sender(world.transport(0)), receiver(world.transport(1));
  const Tensor sent = sender.numbers(100, 0);
  EXPECT_EQ(sender.send(1, layer_tag(0), sent), Status::ok);
  Operation operation{.peer = 0, .tag = layer_tag(0)};
  EXPECT_EQ(receiver.receive(operation), Status::ok);
  EXPECT_EQ(operation.message.parts[0].data, sent.data);
}

TEST(LocalTransport, WhatHadArrivedBeforeALossIsStillReceived) {
  LocalTransports world(2, 0);
  Seat sender(world.transport(0)), receiver(world.transport(1));
  EXPECT_EQ(sender.send(1, layer_tag(0), sender.numbers(3, 5)), Status::ok);
  world.lose(0);
  Operation arrived{.peer = 0, .tag = layer_tag(0)}, missing = arrived;
  EXPECT_EQ(receiver.receive(arrived), Status::ok);
  EXPECT_EQ(receiver.receive(missing), Status::peer_lost);
}

}  // namespace
}  // namespace tandem::test
