#include "comm/transport_conformance.h"

#include <atomic>
#include <random>

namespace tandem::test {
namespace {

TEST_P(TransportConformance, OnePeerAndTagKeepTheirOrder) {
  const auto w = world(2);
  constexpr int count = 200;
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    EXPECT_EQ(seat.transport().self(), rank);
    if (rank == 0) {
      for (int i = 0; i < count; ++i)
        EXPECT_EQ(seat.send(1, layer_tag(3), seat.numbers(1 + i % 7, i)), Status::ok);
      return;
    }
    std::vector<Operation> posted(count / 2, Operation{.peer = 0, .tag = layer_tag(3)});
    for (Operation& operation : posted) seat.start(operation);
    for (int i = 0; i < count / 2; ++i) {
      EXPECT_EQ(seat.wait(posted[i]), Status::ok);
      EXPECT_TRUE(holds(posted[i].message.parts[0], 1 + i % 7, i)) << i;
    }
    for (int i = count / 2; i < count; ++i) {
      Operation operation{.peer = 0, .tag = layer_tag(3)};
      EXPECT_EQ(seat.receive(operation), Status::ok);
      EXPECT_TRUE(holds(operation.message.parts[0], 1 + i % 7, i)) << i;
    }
  });
}

// Every field of a tag tells messages apart.
TEST_P(TransportConformance, TagsMayBeReceivedInAnyOrder) {
  const auto w = world(2);
  const std::vector<Tag> tags = {
      {},
      {.kind = MessageKind::dispatch},
      {.phase = 1},
      {.phase = 255},
      {.backward = true},
      {.layer = 0},
      {.layer = 32767},
      {.micro_batch = 0},
      {.micro_batch = 1},
      {.kind = MessageKind::combine, .phase = 2, .backward = true, .layer = 9, .micro_batch = 4}};
  const int count = static_cast<int>(tags.size());
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank == 0) {
      for (int i = 0; i < count; ++i)
        EXPECT_EQ(seat.send(1, tags[i], seat.numbers(4, 100 * i)), Status::ok);
      return;
    }
    for (int i = count - 1; i >= 0; --i) {
      Operation operation{.peer = 0, .tag = tags[i]};
      EXPECT_EQ(seat.receive(operation), Status::ok);
      EXPECT_TRUE(holds(operation.message.parts[0], 4, 100 * i)) << i;
    }
  });
}

TEST_P(TransportConformance, SendersAreKeptApart) {
  const auto w = world(4);
  on_threads(4, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank > 0) {
      EXPECT_EQ(seat.send(0, layer_tag(1), seat.numbers(3, rank)), Status::ok);
      return;
    }
    for (const int peer : {2, 3, 1}) {
      Operation operation{.peer = peer, .tag = layer_tag(1)};
      EXPECT_EQ(seat.receive(operation), Status::ok);
      EXPECT_TRUE(holds(operation.message.parts[0], 3, peer));
    }
  });
}

TEST_P(TransportConformance, MessagesOfEverySize) {
  const auto w = world(2);
  // Numbers of 4 bytes: none to 64 MiB, and what lies beside common limits.
  const std::vector<int64_t> counts = {0,      1,    15,   16,    17,      1023,          1024,
                                       1025,   2048, 2049, 16383, 1 << 16, (1 << 18) + 1, 1 << 20,
                                       1 << 24};
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    for (const int64_t count : counts) {
      const auto first = static_cast<int32_t>(count);
      if (rank == 0) {
        EXPECT_EQ(seat.send(1, layer_tag(0), seat.numbers(count, first)), Status::ok);
      } else {
        Operation operation{.peer = 0, .tag = layer_tag(0)};
        EXPECT_EQ(seat.receive(operation), Status::ok);
        EXPECT_TRUE(holds(operation.message.parts[0], count, first)) << count;
        EXPECT_EQ(operation.message.bytes(), 4 * count);
      }
    }
  });
}

TEST_P(TransportConformance, BothPartsKeepShapeAndDtype) {
  const auto w = world(2);
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank == 0) {
      Tensor rows = seat.device().allocate(5, 12, DType::bf16);
      for (int r = 0; r < 5; ++r)
        for (int c = 0; c < 12; ++c) rows.row<uint16_t>(r)[c] = static_cast<uint16_t>(20 * r + c);
      Message message{.parts = {rows.slice_cols({3, 10}).slice_rows({1, 4}), seat.numbers(6, 9)}};
      EXPECT_EQ(seat.send(1, layer_tag(0), std::move(message)), Status::ok);
      return;
    }
    Operation operation{.peer = 0, .tag = layer_tag(0)};
    ASSERT_EQ(seat.receive(operation), Status::ok);
    const Tensor& rows = operation.message.parts[0];
    ASSERT_EQ(rows.rows, 3);
    ASSERT_EQ(rows.cols, 7);
    ASSERT_EQ(rows.dtype, DType::bf16);
    for (int r = 0; r < 3; ++r)
      for (int c = 0; c < 7; ++c) EXPECT_EQ(rows.row<uint16_t>(r)[c], 20 * (r + 1) + c + 3);
    EXPECT_TRUE(holds(operation.message.parts[1], 6, 9));
    EXPECT_LE(operation.message.sent_seconds, seat.transport().now_seconds());
  });
}

TEST_P(TransportConformance, ARankMaySendToItself) {
  const auto w = world(1);
  Seat seat(w->transport(0));
  EXPECT_EQ(seat.send(0, layer_tag(0), seat.numbers(10, 1)), Status::ok);
  Operation sent_before{.peer = 0, .tag = layer_tag(0)};
  EXPECT_EQ(seat.receive(sent_before), Status::ok);
  EXPECT_TRUE(holds(sent_before.message.parts[0], 10, 1));
  Operation posted_before{.peer = 0, .tag = layer_tag(0)};
  seat.start(posted_before);
  EXPECT_EQ(seat.send(0, layer_tag(0), seat.numbers(10, 2)), Status::ok);
  EXPECT_EQ(seat.wait(posted_before), Status::ok);
  EXPECT_TRUE(holds(posted_before.message.parts[0], 10, 2));
}

TEST_P(TransportConformance, PollEndsAtItsDeadline) {
  const auto w = world(2);
  Seat seat(w->transport(0));
  const double until = seat.in_seconds(0.03);
  EXPECT_EQ(seat.transport().poll(until), nullptr);
  EXPECT_GE(seat.transport().now_seconds(), until);
  EXPECT_EQ(seat.transport().poll(0), nullptr);  // long past
}

TEST_P(TransportConformance, AWithdrawnReceiveIsNeverReported) {
  const auto w = world(2);
  std::atomic<bool> withdrawn{false};
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank == 0) {
      while (!withdrawn) std::this_thread::yield();
      EXPECT_EQ(seat.send(1, layer_tag(0), seat.numbers(3, 5)), Status::ok);
      return;
    }
    {
      Operation operation{.peer = 0, .tag = layer_tag(0), .deadline_seconds = seat.in_seconds(60)};
      ASSERT_FALSE(seat.transport().receive(operation));
      seat.transport().cancel(operation);
    }
    withdrawn = true;
    Operation next{.peer = 0, .tag = layer_tag(0)};  // gets what the first one would have got
    EXPECT_EQ(seat.receive(next), Status::ok);
    EXPECT_TRUE(holds(next.message.parts[0], 3, 5));
    EXPECT_EQ(seat.take(0.02), nullptr);
  });
}

// Its message may have come already: it is gone with the operation then, and nothing else is.
TEST_P(TransportConformance, ACompletedReceiveCanBeWithdrawn) {
  const auto w = world(2);
  std::atomic<bool> posted{false};
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank == 0) {
      while (!posted) std::this_thread::yield();
      EXPECT_EQ(seat.send(1, layer_tag(0), seat.numbers(3, 5)), Status::ok);
      EXPECT_EQ(seat.send(1, layer_tag(1), seat.numbers(3, 6)), Status::ok);
      return;
    }
    Operation first{.peer = 0, .tag = layer_tag(0), .deadline_seconds = seat.in_seconds(60)};
    ASSERT_FALSE(seat.transport().receive(first));
    posted = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    seat.transport().cancel(first);
    Operation second{.peer = 0, .tag = layer_tag(1)};
    EXPECT_EQ(seat.receive(second), Status::ok);
    EXPECT_TRUE(holds(second.message.parts[0], 3, 6));
    EXPECT_EQ(seat.take(0.02), nullptr);
  });
}

TEST_P(TransportConformance, ATimeoutFailsOneOperationAndNotTheConnection) {
  const auto w = world(2);
  std::atomic<bool> late{false};
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    if (rank == 0) {
      while (!late) std::this_thread::yield();
      EXPECT_EQ(seat.send(1, layer_tag(0), seat.numbers(3, 5)), Status::ok);
      return;
    }
    const double soon = seat.in_seconds(0.02), later = seat.in_seconds(0.06);
    Operation patient{.peer = 0, .tag = layer_tag(0)};
    Operation second{.peer = 0, .tag = layer_tag(1), .deadline_seconds = later};
    Operation first{.peer = 0, .tag = layer_tag(2), .deadline_seconds = soon};
    for (Operation* operation : {&patient, &second, &first}) seat.start(*operation);
    EXPECT_EQ(seat.take(), &first);
    EXPECT_EQ(first.status, Status::timed_out);
    EXPECT_GE(seat.transport().now_seconds(), soon);
    EXPECT_EQ(seat.take(), &second);
    EXPECT_EQ(second.status, Status::timed_out);
    EXPECT_GE(seat.transport().now_seconds(), later);
    late = true;
    EXPECT_EQ(seat.wait(patient), Status::ok);
    EXPECT_TRUE(holds(patient.message.parts[0], 3, 5));
  });
}

TEST_P(TransportConformance, OperationsWithALostPeerFail) {
  const auto w = world(3);
  w->lose(2);
  on_threads(2, [&](int rank) {
    Seat seat(w->transport(rank));
    Operation operation{.peer = 2, .tag = layer_tag(0)};
    EXPECT_EQ(seat.receive(operation), Status::peer_lost);
    EXPECT_EQ(seat.send(2, layer_tag(0), seat.numbers(3, 5)), Status::peer_lost);
    // The others go on.
    EXPECT_EQ(seat.send(1 - rank, layer_tag(0), seat.numbers(3, rank)), Status::ok);
    Operation other{.peer = 1 - rank, .tag = layer_tag(0)};
    EXPECT_EQ(seat.receive(other), Status::ok);
    EXPECT_TRUE(holds(other.message.parts[0], 3, 1 - rank));
  });
}

TEST_P(TransportConformance, ALossWakesWhoeverWaits) {
  const auto w = world(3);
  on_threads(3, [&](int rank) {
    if (rank == 2) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      w->lose(2);
      return;
    }
    Seat seat(w->transport(rank));
    std::vector<Operation> lost(5, Operation{.peer = 2, .tag = layer_tag(0)});
    Operation other{.peer = 1 - rank, .tag = layer_tag(0)};
    seat.start(other);
    for (Operation& operation : lost) seat.start(operation);
    const double start = seat.transport().now_seconds();
    for (Operation& operation : lost) EXPECT_EQ(seat.wait(operation), Status::peer_lost);
    EXPECT_LT(seat.transport().now_seconds() - start, 30);  // far before the deadline
    EXPECT_EQ(seat.send(1 - rank, layer_tag(0), seat.numbers(3, 5)), Status::ok);
    EXPECT_EQ(seat.wait(other), Status::ok);
  });
}

#ifdef __SANITIZE_THREAD__
constexpr int stress_messages = 60;
#else
constexpr int stress_messages = 400;
#endif

// Every rank sends to every rank, itself included, and receives in an order of its own, now before
// the message is there and now behind it.
TEST_P(TransportConformance, ManyRanksAtOnce) {
  constexpr int ranks = 7;
  constexpr unsigned seed = 5;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  const auto w = world(ranks);
  on_threads(ranks, [&](int rank) {
    Seat seat(w->transport(rank));
    std::mt19937 random(seed + rank);
    struct Job {
      bool sends;
      int peer, index;
    };
    std::vector<Job> jobs;
    for (int peer = 0; peer < ranks; ++peer)
      for (int i = 0; i < stress_messages; ++i) {
        jobs.push_back({true, peer, i});
        jobs.push_back({false, peer, i});
      }
    std::shuffle(jobs.begin(), jobs.end(), random);
    std::vector<std::vector<Operation>> received(ranks, std::vector<Operation>(stress_messages));
    for (const Job& job : jobs) {
      if (job.sends) {
        const Tensor t = seat.numbers(job.index % 50, 1000 * rank + job.index);
        EXPECT_EQ(seat.send(job.peer, layer_tag(job.index), t), Status::ok);
      } else {
        Operation& operation = received[job.peer][job.index];
        operation.peer = job.peer;
        operation.tag = layer_tag(job.index);
        seat.start(operation);
      }
    }
    for (int peer = 0; peer < ranks; ++peer)
      for (int i = 0; i < stress_messages; ++i) {
        EXPECT_EQ(seat.wait(received[peer][i]), Status::ok);
        EXPECT_TRUE(holds(received[peer][i].message.parts[0], i % 50, 1000 * peer + i));
      }
  });
}

// Ranks go down while the others talk: every operation still completes, once.
TEST_P(TransportConformance, LossesUnderLoad) {
  constexpr int ranks = 6;
  const auto w = world(ranks);
  on_threads(ranks, [&](int rank) {
    Seat seat(w->transport(rank));
    const int count = rank < 2 ? 10 : stress_messages / 4;
    std::vector<std::vector<Operation>> received(ranks, std::vector<Operation>(count));
    for (int i = 0; i < count; ++i)
      for (int peer = 0; peer < ranks; ++peer) {
        const Status sent = seat.send(peer, layer_tag(i), seat.numbers(10, i));
        EXPECT_TRUE(sent == Status::ok || (sent == Status::peer_lost && peer < 2));
        received[peer][i].peer = peer;
        received[peer][i].tag = layer_tag(i);
        seat.start(received[peer][i]);
      }
    if (rank < 2) {
      for (auto& operations : received)
        for (Operation& operation : operations)
          if (!seat.completed(operation)) seat.transport().cancel(operation);
      w->lose(rank);
      return;
    }
    for (int peer = 0; peer < ranks; ++peer)
      for (Operation& operation : received[peer]) {
        const Status status = seat.wait(operation);
        EXPECT_TRUE(status == Status::ok || (status == Status::peer_lost && peer < 2)) << peer;
      }
  });
}

}  // namespace
}  // namespace tandem::test
