#include "tandem/comm/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/ranks.h"
#include "tandem/base/error.h"

namespace tandem::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr double short_seconds = 0.03;

Task<> receive_one(Endpoint& endpoint, int peer, Tag tag, std::vector<int32_t>& received) {
  const Message message = co_await endpoint.receive(peer, tag);
  received.push_back(*message.parts[0].row<int32_t>(0));
}

// One task inside another, so that a frame is waited for when it is destroyed.
Task<> receive_nested(Endpoint& endpoint, int peer, Tag tag, std::vector<int32_t>& received) {
  co_await receive_one(endpoint, peer, tag, received);
  co_await receive_one(endpoint, peer, tag, received);
}

Task<> fail_behind(Endpoint& endpoint, int peer, Tag tag) {
  if (peer >= 0) (void)co_await endpoint.receive(peer, tag);
  throw InputError("this task fails");
}

Task<> send_seven(Endpoint& endpoint, EndpointSeat& seat) {
  endpoint.send(0, layer_tag(1), {.parts = {seat.numbers(7)}});
  co_return;
}

Task<> fail_with(Endpoint&, const char* text) {
  throw WorldError("{}", text);
  co_return;
}

template <class Function>
std::string world_error(Function function) {
  try {
    function();
  } catch (const WorldError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Endpoint, TasksRunSideBySide) {
  LocalHub hub(2);
  EndpointSeat one(hub, 0), other(hub, 1);
  for (const int layer : {2, 0, 1})
    other.endpoint.send(0, layer_tag(layer), {.parts = {other.numbers(layer)}});
  std::vector<int32_t> received;
  std::vector<Task<>> tasks;
  for (const int layer : {0, 1, 2})
    tasks.push_back(receive_one(one.endpoint, 1, layer_tag(layer), received));
  one.endpoint.run(tasks);
  EXPECT_THAT(received, ElementsAre(0, 1, 2));
}

TEST(Endpoint, WhileOneTaskWaitsAnotherGoesOn) {
  LocalHub hub(1);
  EndpointSeat seat(hub, 0);
  std::vector<int32_t> received;
  std::vector<Task<>> tasks;
  tasks.push_back(receive_one(seat.endpoint, 0, layer_tag(1), received));
  tasks.push_back(send_seven(seat.endpoint, seat));
  seat.endpoint.run(tasks);
  EXPECT_THAT(received, ElementsAre(7));
}

TEST(Endpoint, MessagesAndWaitsAreRecorded) {
  LocalHub hub(2);
  on_threads(2, [&](int rank) {
    EndpointSeat seat(hub, rank);
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      seat.endpoint.send(0, layer_tag(4), {.parts = {seat.numbers(1)}});
      return;
    }
    std::vector<int32_t> received;
    seat.run(receive_one(seat.endpoint, 1, layer_tag(4), received));
    const auto& spans = seat.recorder.spans();
    ASSERT_EQ(spans.size(), 2u);
    EXPECT_EQ(spans[0].lane, Lane::wait);
    EXPECT_EQ(spans[1].lane, Lane::message);
    for (const Span& span : spans) {
      EXPECT_EQ(span.kind, MessageKind::dispatch);
      EXPECT_EQ(span.layer, 4);
      EXPECT_EQ(span.peer, 1);
      EXPECT_LE(span.start_seconds, span.end_seconds);
    }
    EXPECT_EQ(spans[1].cost.bytes, 4);
  });
}

TEST(Endpoint, ATimeoutNamesRankLayerMicroBatchAndPeer) {
  LocalHub hub(2);
  EndpointSeat seat(hub, 0, short_seconds);
  std::vector<int32_t> received;
  const Tag tag{.kind = MessageKind::combine, .backward = true, .layer = 3, .micro_batch = 2};
  EXPECT_EQ(world_error([&] { seat.run(receive_one(seat.endpoint, 1, tag, received)); }),
            "rank 0: combine message of layer 3, micro-batch 2 (backward) from rank 1: timed out");
}

TEST(Endpoint, ALostPeerIsAnErrorForWhoeverReceivesAndNotForTheSender) {
  LocalHub hub(2);
  EndpointSeat seat(hub, 0);
  hub.lose(1, 0);
  EXPECT_NO_THROW(seat.endpoint.send(1, layer_tag(0), {.parts = {seat.numbers(1)}}));
  std::vector<int32_t> received;
  EXPECT_THAT(world_error([&] { seat.run(receive_one(seat.endpoint, 1, layer_tag(0), received)); }),
              HasSubstr("from rank 1: peer lost"));
}

// Tasks that wait when another fails are destroyed and leave nothing behind: what comes for them
// later goes to whoever asks for it then.
TEST(Endpoint, AFailedTaskEndsTheRunAtOnceAndLeavesNothingUnderWay) {
  for (const bool fails_later : {false, true}) {
    LocalHub hub(2);
    EndpointSeat seat(hub, 0), other(hub, 1);
    std::vector<int32_t> received;
    {
      std::vector<Task<>> tasks;
      for (int layer = 0; layer < 5; ++layer)
        tasks.push_back(receive_nested(seat.endpoint, 1, layer_tag(layer), received));
      tasks.push_back(fail_behind(seat.endpoint, fails_later ? 1 : -1, layer_tag(9)));
      if (fails_later) {
        // Reported before the failure, and behind it: one task waits again, one is not resumed.
        other.endpoint.send(0, layer_tag(0), {.parts = {other.numbers(1)}});
        other.endpoint.send(0, layer_tag(9), {.parts = {other.numbers(2)}});
      }
      const double start = seat.endpoint.now_seconds();
      EXPECT_THROW(seat.endpoint.run(tasks), InputError);
      EXPECT_LT(seat.endpoint.now_seconds() - start, 5);
      other.endpoint.send(0, layer_tag(1), {.parts = {other.numbers(3)}});  // completes, unreported
    }
    for (int layer = 1; layer < 5; ++layer)
      for (const int i : {0, 1})
        other.endpoint.send(0, layer_tag(layer), {.parts = {other.numbers(10 * layer + i)}});
    EXPECT_EQ(seat.transport->poll(0), nullptr);
    received.clear();
    std::vector<Task<>> tasks;
    for (int layer = 2; layer < 5; ++layer)
      tasks.push_back(receive_nested(seat.endpoint, 1, layer_tag(layer), received));
    seat.endpoint.run(tasks);
    EXPECT_THAT(received, ElementsAre(20, 21, 30, 31, 40, 41));
  }
}

TEST(Endpoint, TheFirstFailureInOrderOfTasksIsThrown) {
  LocalHub hub(1);
  EndpointSeat seat(hub, 0);
  std::vector<Task<>> tasks;
  tasks.push_back(fail_with(seat.endpoint, "first"));
  tasks.push_back(fail_with(seat.endpoint, "second"));
  EXPECT_EQ(world_error([&] { seat.endpoint.run(tasks); }), "first");
}

// Makes micro-batch m - 1 ready, then waits for m + 1.
Task<> between(Endpoint& endpoint, int16_t m, std::vector<int32_t>& order) {
  const auto tag = [](int16_t number) {
    return Tag{.kind = MessageKind::dispatch, .layer = number, .micro_batch = number};
  };
  order.push_back(m);
  endpoint.send(0, tag(static_cast<int16_t>(m - 1)), {});
  if (m < 2) (void)co_await endpoint.receive(0, tag(m));
  order.push_back(m);
}

TEST(Endpoint, TheLowestMicroBatchGoesFirst) {
  LocalHub hub(1);
  EndpointSeat seat(hub, 0);
  const std::vector<int16_t> micro_batches{2, 1, 0};
  std::vector<int32_t> order;
  std::vector<Task<>> tasks, all;
  for (const int16_t m : micro_batches) tasks.push_back(between(seat.endpoint, m, order));
  all.push_back(seat.endpoint.together(tasks, micro_batches));
  seat.endpoint.run(all);
  EXPECT_THAT(order, ElementsAre(0, 1, 0, 2, 2, 1));
}

Task<> through(Endpoint& endpoint, Turnstile& gate, int16_t turn, std::vector<int32_t>& order) {
  std::vector<int32_t> received;
  co_await receive_one(endpoint, 1, layer_tag(turn), received);
  co_await gate.wait(turn);
  order.push_back(turn);
  gate.pass();
}

TEST(Turnstile, MicroBatchesPassInOrderWhateverOrderTheyComeIn) {
  std::vector<int16_t> turns = {0, 1, 2, 3};
  do {
    LocalHub hub(2);
    EndpointSeat seat(hub, 0), other(hub, 1);
    Turnstile gate(seat.endpoint);
    std::vector<int32_t> order;
    std::vector<Task<>> tasks;
    for (const int16_t turn : turns) {
      tasks.push_back(through(seat.endpoint, gate, turn, order));
      other.endpoint.send(0, layer_tag(turn), {.parts = {other.numbers(0)}});
    }
    seat.endpoint.run(tasks);
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3));
  } while (std::ranges::next_permutation(turns).found);
}

// Asks the heap; counts how often.
class CountingMemory final : public std::pmr::memory_resource {
 public:
  int allocations = 0;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    ++allocations;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, size_t bytes, size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

TEST(Endpoint, ARepeatedStepAllocatesNoFrames) {
  CountingMemory memory;
  std::pmr::memory_resource* const before = std::pmr::set_default_resource(&memory);
  {
    LocalHub hub(1);
    EndpointSeat seat(hub, 0);
    const Tensor number = seat.numbers(1);
    std::vector<int32_t> received;
    received.reserve(100000);
    const auto step = [&] {
      Array<Task<>> tasks(&seat.endpoint.frames());
      for (int m = 0; m < 4; ++m)
        tasks.push_back(receive_nested(seat.endpoint, 0, layer_tag(m), received));
      for (int m = 7; m >= 0; --m) seat.endpoint.send(0, layer_tag(m / 2), {.parts = {number}});
      seat.endpoint.run(tasks);
    };
    for (int i = 0; i < 10; ++i) step();
    const int warm = memory.allocations;
    EXPECT_GT(warm, 0);
    for (int i = 0; i < 1000; ++i) step();
    EXPECT_EQ(memory.allocations, warm);
  }
  std::pmr::set_default_resource(before);
}

}  // namespace
}  // namespace tandem::test
