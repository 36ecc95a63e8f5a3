// Requests that are almost right, and some that are nothing at all: each gets an answer or is
// refused, and the server goes on.
#include <fmt/format.h>

#include <random>

#include "serve/http_fixture.h"
#include "serve/raw_client.h"

namespace tandem::test {
namespace {

class Mutations {
 public:
  explicit Mutations(uint64_t seed) : source_(seed, RandomStream::data_order) {}

  uint32_t below(uint32_t count) { return source_.bits(0, next_++) % count; }
  std::string of(std::string text) {
    for (uint32_t i = 0, changes = 1 + below(4); i < changes && !text.empty(); ++i) change(text);
    return text;
  }

 private:
  void change(std::string& text) {
    static const std::vector<std::string> bits = {"\xff",
                                                  "\xc3",
                                                  "\"",
                                                  "{",
                                                  "}",
                                                  "[",
                                                  "]",
                                                  "\\u0000",
                                                  "\\ud800",
                                                  "1e999",
                                                  "-1",
                                                  "null",
                                                  "true",
                                                  "99999999999999999999",
                                                  "\"stop\":",
                                                  "[[[[[[",
                                                  "\"n\": 3, ",
                                                  "-1e-5",
                                                  "\"prompt\": [1, 2], ",
                                                  "\r\n",
                                                  std::string(1, '\0')};
    const uint32_t at = below(static_cast<uint32_t>(text.size()));
    switch (below(5)) {
      case 0:
        text[at] = static_cast<char>(below(256));
        break;
      case 1:
        text.erase(at, 1 + below(20));
        break;
      case 2:
        text.insert(at, bits[below(static_cast<uint32_t>(bits.size()))]);
        break;
      case 3:
        text.insert(at, text.substr(below(static_cast<uint32_t>(text.size())), 1 + below(30)));
        break;
      default:
        text.resize(at);
    }
  }

  RandomSource source_;
  uint64_t next_ = 0;
};

const std::vector<std::string>& good_bodies() {
  static const std::vector<std::string> bodies = {
      R"({"model": "tiny", "prompt": "Hello", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9})",
      R"({"model": "tiny", "prompt": ["a", "b"], "n": 2, "stop": ["x", "yz"], "max_tokens": 2})",
      R"({"model": "tiny", "prompt": [[1, 2], [3]], "seed": -4, "logprobs": 2, "max_tokens": 2})",
      R"({"model": "tiny", "prompt": "a", "stream": true, "stream_options": {"include_usage": true},
          "echo": true, "max_tokens": 2})",
      R"({"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2})",
      R"({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "é"}]},
          {"role": "assistant", "content": "b"}], "logprobs": true, "top_logprobs": 3,
          "max_completion_tokens": 2, "stream": true})"};
  return bodies;
}

void send_mutated_bodies(uint64_t seed, int count) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  const TestServer server({.prefill_chunk = 64});
  auto client = server.client();
  Mutations mutations(seed);
  int answered = 0;
  for (int i = 0; i < count; ++i) {
    const auto which = mutations.below(static_cast<uint32_t>(good_bodies().size()));
    const std::string body = mutations.of(good_bodies()[which]);
    const char* path = which < 4 ? "/v1/completions" : "/v1/chat/completions";
    const auto result = client.Post(path, body, "application/json");
    ASSERT_TRUE(result) << "request " << i << ": " << body;
    const int status = result->status;
    ASSERT_TRUE(status == 200 || status == 400 || status == 404 || status == 429) << status << body;
    if (status == 200)
      ++answered;
    else
      ASSERT_FALSE(Json::parse(result->body)["error"]["message"].get<std::string>().empty());
  }
  EXPECT_GT(answered, 0);
  EXPECT_LT(answered, count);
}

TEST(Mutations, OfBodiesAreAnsweredOrRefused) {
  const uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed() + 1;
  fmt::print("seed {}\n", seed);
  send_mutated_bodies(seed, 3000);
}
TEST(Mutations, DISABLED_OfBodiesAreAnsweredOrRefusedForLong) {
  const uint64_t seed = std::random_device{}();
  fmt::print("seed {}\n", seed);
  send_mutated_bodies(seed, 100000);
}

// Whole requests, heads and all, each over a connection of its own.
TEST(Mutations, OfWholeRequestsLeaveTheServerStanding) {
  const uint64_t seed = ::testing::UnitTest::GetInstance()->random_seed() + 2;
  fmt::print("seed {}\n", seed);
  const TestServer server(
      {}, {}, {.limits = {.idle_seconds = 0.02, .read_seconds = 0.02, .write_seconds = 1}});
  Mutations mutations(seed);
  const std::string& body = good_bodies()[0];
  const std::string head = fmt::format(
      "POST /v1/completions?a=b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Range: bytes=0-5\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
      body.size());
  for (int i = 0; i < 300; ++i) {
    const RawClient client(server.server.port());
    client.send(i % 50 ? mutations.of(head) + body : std::string(1 + mutations.below(9000), 'x'));
    client.receive();
  }
  EXPECT_EQ(server.complete({{"prompt", "Hello"}, {"max_tokens", 2}})["status"], 200);
}

TEST(Mutations, LongHeadersLeaveTheServerStanding) {
  const TestServer server({}, {}, {.limits = {.idle_seconds = 0.5, .read_seconds = 0.5}});
  for (const std::string& line :
       {"Range: bytes=" + std::string(8000, '1'), "Range: bytes=0-" + std::string(8000, ','),
        "Content-Type: " + std::string(8000, ';'), "Content-Length: " + std::string(400, '9'),
        "X: " + std::string(1 << 20, 'x'), std::string(1 << 20, ':')}) {
    const RawClient client(server.server.port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + line + "\r\n\r\n{}");
    EXPECT_EQ(client.receive().find("HTTP/1.1 200"), std::string::npos);
  }
  const RawClient client(server.server.port());
  client.send("GET /" + std::string(100000, '/') + " HTTP/1.1\r\n\r\n");
  client.receive();
  EXPECT_EQ(server.complete({{"prompt", "Hello"}, {"max_tokens", 2}})["status"], 200);
}

}  // namespace
}  // namespace tandem::test
