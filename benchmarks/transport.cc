// Messages from one process to another through UcxNetwork, as ranks of a run send them: so many of
// one size, up to 32 on their way, every eighth acknowledged. transport.sh sets it beside UCX's own
// measurement.
//   transport BYTES MESSAGES [near|far]   prints bytes a second; far: as if on two machines
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "tandem/base/clock.h"
#include "tandem/comm/ucx/ucx_network.h"
#include "tandem/device/cpu/cpu_device.h"

namespace {

using namespace tandem;

constexpr int outstanding = 32, acknowledged_each = 8, warm_up = 1000;
constexpr unsigned deadline_seconds = 120;

// What the two tell each other before they are connected goes through a pair of pipes.
struct Side {
  int self;
  int read, write;
  bool far;
  std::atomic<bool> connected{false};
  std::unique_ptr<UcxNetwork> network{};

  std::string exchange(std::string address) const {
    address.resize(128, ' ');
    if (::write(write, address.data(), address.size()) != std::ssize(address)) std::exit(1);
    size_t have = 0;
    while (have < address.size()) {
      const ssize_t some = ::read(read, address.data() + have, address.size() - have);
      if (some <= 0) std::exit(1);
      have += static_cast<size_t>(some);
    }
    return address.substr(0, address.find_last_not_of(' ') + 1);
  }

  // Calls `receive` for each message that comes. The process ends if all this takes too long.
  void connect(std::function<void()> receive) {
    alarm(deadline_seconds);
    network = std::make_unique<UcxNetwork>(
        self, 2,
        UcxNetwork::Settings{.host = far && self == 1 ? "127.0.0.2" : "127.0.0.1", .key = 1},
        [receive](const Envelope&, const Message&) { receive(); },
        [this](int, bool stands) { connected = stands; });
    network->connect(1 - self, exchange(network->renew()));
    while (!connected) usleep(100);
    exchange("both are");
  }

  void finish() {
    exchange("done");
    network.reset();
  }
};

void acknowledge(Side& side, int64_t messages) {
  std::atomic<int64_t> arrived{0};
  side.connect([&] {
    if (++arrived % acknowledged_each == 0) side.network->send(0, {.from = 1, .to = 0}, {});
  });
  for (int i = 0; i < outstanding; i += acknowledged_each)
    side.network->send(0, {.from = 1, .to = 0}, {});
  while (arrived < messages) usleep(1000);
  side.finish();
}

// The network's own thread sends what an acknowledgement allows.
double bytes_per_second(Side& side, int64_t bytes, int64_t messages) {
  const auto device = make_cpu_device(1);
  Message message;
  message.parts[0] = device->allocate(1, bytes, DType::fp8);
  int64_t sent = 0, acknowledged = 0;
  const auto send = [&](int64_t count) {
    for (const int64_t end = std::min(sent + count, messages); sent < end; ++sent)
      side.network->send(1, {.from = 0, .to = 1, .tag = {.kind = MessageKind::dispatch}}, message);
  };
  double since = 0, until = 0;
  std::atomic<bool> done{false};
  side.connect([&] {
    acknowledged += acknowledged_each;
    if (acknowledged == outstanding + warm_up) since = wall_seconds();
    if (acknowledged == outstanding + messages) until = wall_seconds(), done = true;
    send(acknowledged_each);
  });
  while (!done) usleep(1000);
  side.finish();
  return static_cast<double>(bytes * (messages - warm_up)) / (until - since);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string where = argc == 4 ? argv[3] : "near";
  if (argc < 3 || argc > 4 || (where != "near" && where != "far"))
    return std::fputs("usage: transport BYTES MESSAGES [near|far]\n", stderr), 2;
  const bool far = where == "far";
  const int64_t bytes = std::atoll(argv[1]),
                messages = std::atoll(argv[2]) / acknowledged_each * acknowledged_each + warm_up;
  int there[2], back[2];
  if (pipe(there) != 0 || pipe(back) != 0) return 1;
  if (fork() == 0) {
    Side receiver{.self = 1, .read = there[0], .write = back[1], .far = far};
    acknowledge(receiver, messages);
    _exit(0);
  }
  Side sender{.self = 0, .read = back[0], .write = there[1], .far = far};
  std::printf("%.0f\n", bytes_per_second(sender, bytes, messages));
  wait(nullptr);
}
