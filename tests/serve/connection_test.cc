#include <fmt/format.h>

#include <thread>

#include "serve/http_fixture.h"
#include "serve/raw_client.h"
#include "tandem/serve/answer.h"

namespace tandem::test {
namespace {

std::string request(const std::string& body) {
  return fmt::format(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Content-Length: {}\r\n\r\n{}",
      body.size(), body);
}

// What a server that answers gives; a client of its own, so that no old connection helps.
void expect_an_answer(const TestServer& server) {
  EXPECT_EQ(server.complete({{"prompt", "Hello"}, {"max_tokens", 2}})["status"], 200);
}

TEST(Connections, IdleAndHalfOpenOnesAreInNobodysWay) {
  const TestServer server;
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 100; ++i) {
    idle.push_back(std::make_unique<RawClient>(server.server.port()));
    if (i % 2) idle.back()->send("POST /v1/completions HTTP/1.1\r\nContent-Le");
  }
  for (int i = 0; i < 3; ++i) expect_an_answer(server);
}

TEST(Connections, HaveALimit) {
  const TestServer server({}, {}, {.connections = 3});
  std::vector<std::unique_ptr<RawClient>> open;
  for (int i = 0; i < 3; ++i) {
    open.push_back(std::make_unique<RawClient>(server.server.port()));
    open.back()->send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_NE(open.back()->receive("ok").find("200"), std::string::npos);
  }
  EXPECT_NE(RawClient(server.server.port()).receive().find("HTTP/1.1 503"), std::string::npos);
}

TEST(Connections, ThatAreIdleOrSlowAreClosed) {
  const TestServer server(
      {}, {}, {.limits = {.idle_seconds = 0.05, .read_seconds = 0.1, .write_seconds = 0.1}});
  EXPECT_EQ(RawClient(server.server.port()).receive(), "");
  const RawClient slow(server.server.port());
  slow.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(slow.receive().find("HTTP/1.1 200"), std::string::npos);  // ends
  expect_an_answer(server);
}

TEST(Connections, BodiesHaveALimit) {
  const TestServer server({}, {}, {.limits = {.request_bytes = 20000}});
  EXPECT_EQ(server.complete({{"prompt", std::string(30000, 'a')}})["status"], 413);
  const RawClient endless(server.server.port());
  endless.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::jthread sends([&](const std::stop_token& stop) {
    const std::string chunk = "1000\r\n" + std::string(0x1000, 'a') + "\r\n";
    for (int i = 0; i < 1000 && !stop.stop_requested(); ++i) endless.send(chunk);
  });
  EXPECT_EQ(endless.receive().find("HTTP/1.1 200"), std::string::npos);
  sends.request_stop();
  sends.join();
  const RawClient packed(server.server.port());
  packed.send(
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n"
      "Content-Length: 1\r\n\r\nx");
  EXPECT_NE(packed.receive("error").find("415"), std::string::npos);
  expect_an_answer(server);
}

// A body that nobody reads, since its head was refused, is not taken for the next request.
TEST(Connections, WhatWasRefusedUnreadIsNotTheNextRequest) {
  const TestServer server({}, {.key = "secret"});
  const RawClient client(server.server.port());
  client.send(request("GET /health HTTP/1.1\r\nHost: a\r\n\r\n"));
  client.send(
      "GET /nothing HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n"
      "Connection: close\r\n\r\n");
  const std::string answers = client.receive();
  EXPECT_NE(answers.find("HTTP/1.1 401"), std::string::npos);
  EXPECT_NE(answers.find("HTTP/1.1 404"), std::string::npos);
  EXPECT_EQ(answers.find("HTTP/1.1 200"), std::string::npos);
}

// Answers that take long, whose clients leave.
class Leaving : public ::testing::TestWithParam<bool> {};

TEST_P(Leaving, CancelsTheAnswer) {
  // A step waits as long as the client is there, so that the answer cannot be over before it goes.
  std::atomic<bool> gone = false;
  TestServer server({}, {}, {}, "single", [&](Engine&) {
    while (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  {
    const RawClient client(server.server.port());
    client.send(request(fmt::format(
        R"({{"model": "tiny", "prompt": "a", "max_tokens": 500, "ignore_eos": true, "stream": {}}})",
        GetParam())));
    while (server.scheduler.statistics().counts().steps == 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  gone = true;
  auto client = server.client();
  while (Json::parse(client.Get("/status")->body)["running"] != 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_LT(server.scheduler.statistics().counts().generated_tokens, 500);
}

INSTANTIATE_TEST_SUITE_P(Streams, Leaving, ::testing::Bool());

TEST(Connections, RequestsHaveALimitOfTime) {
  const TestServer server({}, {.request_seconds = 0.2}, {}, "single", [](Engine&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  });
  const Json late = server.complete({{"prompt", "a"}, {"max_tokens", 500}, {"ignore_eos", true}});
  EXPECT_EQ(late["status"], 504);
  EXPECT_EQ(late["error"]["code"], "timeout");
}

TEST(Connections, AFullQueueSaysSo) {
  std::atomic<bool> waits = true;
  TestServer server({.sequences = 1, .waiting = 1}, {}, {}, "single", [&](Engine&) {
    while (waits) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  std::jthread runs([&] { expect_an_answer(server); });
  while (server.scheduler.statistics().counts().generated_tokens == 0)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const CompletionRequest request{.prompts = {{1}}, .max_tokens = {1}};
  Answer waiting(request, *server.model, std::numeric_limits<double>::infinity());
  EXPECT_FALSE(server.scheduler.submit(waiting.sequences()));
  const Json refused = server.complete({{"prompt", "a"}, {"max_tokens", 1}});
  EXPECT_EQ(refused["status"], 429);
  EXPECT_EQ(refused["error"]["code"], "queue_full");
  waits = false;
}

TEST(Connections, StoppingEndsStreams) {
  auto server = std::make_unique<TestServer>(
      SchedulerSettings{}, ApiSettings{}, HttpSettings{}, "single",
      [](Engine&) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
  const RawClient client(server->server.port());
  client.send(request(R"({"model": "tiny", "prompt": "a", "max_tokens": 500, "stream": true})"));
  EXPECT_NE(client.receive("data: ").find("200 OK"), std::string::npos);
  server.reset();
  client.receive();  // comes to an end
}

}  // namespace
}  // namespace tandem::test
