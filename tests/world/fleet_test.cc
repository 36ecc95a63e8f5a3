// Who is let into a run, and who is not; the run goes on whatever knocks.
#include "tandem/world/cluster/fleet.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "tandem/base/build_name.h"
#include "tandem/base/clock.h"
#include "tandem/base/error.h"
#include "tandem/comm/control/handshake.h"
#include "tandem/comm/socket_address.h"
#include "tandem/plan/mirrors.h"
#include "tandem/world/cluster/rank_process.h"
#include "tandem/world/seating.h"

#include "world/models.h"
#include "world/processes.h"

namespace tandem::test {
namespace {

using nlohmann::json;

// Starts nothing: tests join by themselves.
class NoStarter final : public Starter {
 public:
  void start(int, const std::string&, const std::string&) override {}
  std::optional<std::string> ended(int) override { return std::nullopt; }
  void give_up(int) override {}
};

// A member that has said who it is; what the fleet answers.
struct Guest {
  Guest(const std::string& address, const std::string& secret, int process,
        const std::string& build = std::string(build_name()))
      : channel(Channel::connect(address, wall_seconds() + 10)) {
    const json challenge = json::parse(*channel.receive(wall_seconds() + 10));
    const std::string proof = proof_of(secret, challenge["nonce"], process);
    channel.send(json{{"process", process}, {"build", build}, {"proof", proof}}.dump());
    answer = json::parse(*channel.receive(wall_seconds() + 10));
  }
  std::string refusal() const { return answer.value("refused", std::string()); }
  Channel channel;
  json answer;
};

class Door : public ::testing::Test {
 protected:
  Door() {
    // The fleet waits for its one member, who joins beside it.
    Listener probe("127.0.0.1", 0);
    port_ = split_address(probe.address()).second;
    address_ = probe.address();
  }
  void open() {
    std::thread joining([&] { member_ = std::make_unique<Guest>(address_, "secret", 0); });
    fleet_ = std::make_unique<Fleet>(FleetSettings{.processes = 1,
                                                   .port = port_,
                                                   .secret = "secret",
                                                   .silent_seconds = never_silent_seconds},
                                     std::make_unique<NoStarter>());
    joining.join();
  }
  // Whether the member is there and is heard.
  void expect_all_is_well() {
    member_->channel.send(json{{"hello", 1}}.dump());
    EXPECT_EQ(fleet_->receive(0, wall_seconds() + 10, 0).value("hello", 0), 1);
  }
  int port_ = 0;
  std::string address_;
  std::unique_ptr<Guest> member_;
  std::unique_ptr<Fleet> fleet_;
};

TEST_F(Door, IsClosedToStrangers) {
  open();
  EXPECT_EQ(Guest(address_, "another", 0).refusal(), "it does not know the secret");
  EXPECT_EQ(Guest(address_, "secret", 0).refusal(), "there is a process 0 already");
  EXPECT_EQ(Guest(address_, "secret", 7).refusal(), "process 7 of 1");
  EXPECT_NE(Guest(address_, "secret", 0, "tandem 0.0.1").refusal().find("it is tandem 0.0.1"),
            std::string::npos);
  expect_all_is_well();
}

TEST_F(Door, RandomBytesAreRefused) {
  open();
  std::mt19937 random(7);
  for (int i = 0; i < 50; ++i) {
    const SocketAddress where(address_);
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(::connect(socket, where.get(), where.size()), 0);
    std::string bytes(random() % 300, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (i % 3 == 0) bytes = "Tndm" + bytes;  // as if it were ours, of any length
    ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (i % 2 == 0) ::close(socket);
    expect_all_is_well();
    if (i % 2 == 1) ::close(socket);
  }
}

TEST_F(Door, WhoIsMissingIsNamed) {
  try {
    const Fleet fleet({.processes = 3, .join_seconds = 0.3}, std::make_unique<NoStarter>());
    FAIL();
  } catch (const WorldError& error) {
    EXPECT_NE(std::string(error.what()).find("process 0, 1, 2 has not joined"), std::string::npos);
  }
}

TEST_F(Door, WhoIsRefusedSaysWhy) {
  open();
  try {
    run_rank_process(address_, 0, "another");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "process 0 was refused: it does not know the secret");
  }
  EXPECT_THROW(run_rank_process("no.such.host.invalid:7000", 0, "secret"), WorldError);
  EXPECT_THROW(run_rank_process("nonsense", 0, "secret"), InputError);
}

// ---- who sits where ----

TEST(Seating, RanksGoWhereTheirKvIs) {
  const ModelConfig model = small_model();
  const Plan plan = make_plan("ma:attention=4,experts=2,batch=2,sequence=2", model);
  const std::vector<int> seats = first_seats(plan, 6);
  EXPECT_EQ(seats, (std::vector<int>{0, 1, 2, 3, 4, 5}));
  for (int lost = 0; lost < 4; ++lost) {
    std::vector<bool> alive(6, true);
    alive[lost] = false;
    const auto after = seats_after_loss(plan, seats, alive);
    EXPECT_EQ(std::vector<int>{after[lost]}, mirrors_of(plan, lost));
    for (int rank = 0; rank < 6; ++rank) EXPECT_TRUE(rank == lost || after[rank] == seats[rank]);
  }
}

TEST(Seating, NobodySitsWithTheLost) {
  std::mt19937 random(3);
  for (const char* text :
       {"ma:attention=5,experts=3", "tp:ranks=6", "ma:attention=2,experts=6,replicas=2"})
    for (int i = 0; i < 200; ++i) {
      const Plan plan = make_plan(text, small_model());
      const int processes = 1 + static_cast<int>(random() % 10);
      std::vector<bool> alive(processes);
      for (int p = 0; p < processes; ++p) alive[p] = random() % 2;
      alive[random() % processes] = true;
      const auto seats =
          seats_after_loss(plan, first_seats(plan, std::min(processes, plan.ranks())), alive);
      for (const int process : seats) EXPECT_TRUE(alive[process]);
    }
}

}  // namespace
}  // namespace tandem::test
