#include <thread>

#include "serve/http_fixture.h"
#include "tandem/text/utf8.h"

namespace tandem::test {
namespace {

std::vector<int32_t> bytes_of(const std::string& text) {
  return ModelText("/none", tiny_model()).encode(text, true);
}

// What `generate` makes of a prompt, as text that JSON can carry.
std::string generated(const std::string& prompt, int64_t tokens, const Sampling& sampling) {
  const ModelText text("/none", tiny_model());
  std::string bytes, repaired;
  for (const int32_t token : alone(bytes_of(prompt), tokens, sampling, 256))
    if (token != 256) bytes += text.token_text(token);
  text::append_repaired(repaired, bytes);
  return repaired;
}

TEST(Completions, AreWhatGenerateMakes) {
  const TestServer server({.prefill_chunk = 3});
  const Json greedy =
      server.complete({{"prompt", "Hello"}, {"max_tokens", 40}, {"temperature", 0}});
  EXPECT_EQ(greedy["status"], 200);
  EXPECT_EQ(greedy["object"], "text_completion");
  EXPECT_EQ(greedy["choices"][0]["text"], generated("Hello", 40, {}));
  EXPECT_EQ(greedy["usage"]["prompt_tokens"], 5);
  const Json drawn = server.complete({{"prompt", {"Hello", "there"}},
                                      {"n", 2},
                                      {"max_tokens", 40},
                                      {"temperature", 0.8},
                                      {"top_p", 0.9},
                                      {"seed", 5}});
  ASSERT_EQ(drawn["choices"].size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(drawn["choices"][i]["index"], i);
    EXPECT_EQ(drawn["choices"][i]["text"],
              generated(i < 2 ? "Hello" : "there", 40,
                        {.temperature = 0.8f, .top_p = 0.9f, .seed = 5u + i % 2}));
  }
}

TEST(Completions, TakeTokensAndGiveThePromptBack) {
  const TestServer server;
  const Json answer = server.complete({{"prompt", {72, 105}}, {"echo", true}, {"temperature", 0}});
  EXPECT_EQ(answer["choices"][0]["text"], "Hi" + generated("Hi", 16, {}));
  const Json several = server.complete(
      {{"prompt", Json::parse("[[72, 105], [72]]")}, {"max_tokens", 3}, {"temperature", 0}});
  EXPECT_EQ(several["choices"][0]["text"], generated("Hi", 3, {}));
  EXPECT_EQ(several["choices"][1]["text"], generated("H", 3, {}));
}

TEST(Completions, EndAtTheEndTokenUnlessToldOtherwise) {
  const TestServer server;
  uint64_t seed = 0;  // one with which the model ends
  while (alone(bytes_of("Hi"), 300, {.temperature = 1, .seed = seed}, 256).size() == 300) ++seed;
  const Json ended = server.complete({{"prompt", "Hi"}, {"max_tokens", 300}, {"seed", seed}});
  EXPECT_EQ(ended["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(ended["choices"][0]["text"], generated("Hi", 300, {.temperature = 1, .seed = seed}));
  const Json on = server.complete(
      {{"prompt", "Hi"}, {"max_tokens", 300}, {"seed", seed}, {"ignore_eos", true}});
  EXPECT_EQ(on["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(on["usage"]["completion_tokens"], 300);
}

TEST(Completions, StopBeforeAStopText) {
  const TestServer server;
  const std::string text = generated("Hello", 60, {.temperature = 1, .seed = 2});
  size_t at = text.size() / 2;
  while (text::continues_character(text[at])) ++at;
  const std::string stop = text.substr(at, text::character_bytes(text[at]));
  for (const Json& stops : {Json(stop), Json{"not there", stop}}) {
    const Json answer =
        server.complete({{"prompt", "Hello"}, {"max_tokens", 60}, {"seed", 2}, {"stop", stops}});
    EXPECT_EQ(answer["choices"][0]["text"], text.substr(0, text.find(stop)));
    EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  }
}

TEST(Completions, StreamsAddUpToTheWhole) {
  const TestServer server({.sequences = 2});
  const Json body{{"model", "tiny"},
                  {"prompt", "Hello"},
                  {"max_tokens", 50},
                  {"n", 3},
                  {"seed", 3},
                  {"stream", true},
                  {"stream_options", {{"include_usage", true}}}};
  std::vector<std::string> texts(3), reasons(3);
  Json usage;
  for (const Json& event : events_of(server.stream("/v1/completions", body))) {
    EXPECT_EQ(event["object"], "text_completion");
    if (event["choices"].empty()) usage = event["usage"];
    for (const Json& choice : event["choices"]) {
      texts[choice["index"]] += choice["text"];
      if (!choice["finish_reason"].is_null()) reasons[choice["index"]] = choice["finish_reason"];
    }
  }
  const Json whole =
      server.complete({{"prompt", "Hello"}, {"max_tokens", 50}, {"n", 3}, {"seed", 3}});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(texts[i], whole["choices"][i]["text"]);
    EXPECT_EQ(reasons[i], whole["choices"][i]["finish_reason"]);
  }
  EXPECT_EQ(usage, whole["usage"]);
}

TEST(Completions, TellLogProbabilities) {
  const TestServer server;
  const Json answer = server.complete(
      {{"prompt", "Hello"}, {"max_tokens", 5}, {"temperature", 0}, {"logprobs", 3}});
  const Json& logprobs = answer["choices"][0]["logprobs"];
  ASSERT_EQ(logprobs["tokens"].size(), 5u);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(logprobs["top_logprobs"][i].size(), 3u);
    // Greedy: the token drawn is the likeliest.
    EXPECT_EQ(logprobs["top_logprobs"][i].begin().value(), logprobs["token_logprobs"][i]);
    EXPECT_LT(logprobs["token_logprobs"][i], 0.0);
  }
  const Json all = server.complete({{"prompt", "Hello"}, {"max_tokens", 1}, {"logprobs", 0}});
  EXPECT_TRUE(all["choices"][0]["logprobs"]["top_logprobs"][0].empty());
}

TEST(Chat, GoesThroughTheTemplate) {
  const TestServer server;
  Json body{{"model", "tiny"},
            {"messages",
             {{{"role", "system"}, {"content", "Be brief."}},
              {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "Hello"}}}}}}},
            {"max_completion_tokens", 30},
            {"seed", 1},
            {"logprobs", true},
            {"top_logprobs", 2}};
  const std::string expected =
      generated("<system>Be brief.<user>Hello<assistant>", 30, {.temperature = 1, .seed = 1});
  const Json answer = server.post("/v1/chat/completions", body.dump());
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(answer["choices"][0]["message"]["content"], expected);
  EXPECT_EQ(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"].size(), 2u);
  body["stream"] = true;
  std::string text;
  for (const Json& event : events_of(server.stream("/v1/chat/completions", body)))
    text += event["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(text, expected);
}

TEST(Api, NamesTheFieldAtFault) {
  const TestServer server;
  const auto expect = [&](const char* body, int status, const Json& field,
                          const char* path = "/v1/completions") {
    const Json answer = server.post(path, body);
    EXPECT_EQ(answer["status"], status) << body << " " << answer;
    EXPECT_EQ(answer["error"]["param"], field) << body;
    EXPECT_FALSE(answer["error"]["message"].get<std::string>().empty());
  };
  expect(R"({"prompt": "a"})", 400, "model");
  expect(R"({"model": "other", "prompt": "a"})", 404, "model");
  expect(R"({"model": "tiny"})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": ""})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": {"a": 1}})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": [1, 264]})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": [1, -1]})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": "a", "max_tokens": 0})", 400, "max_tokens");
  expect(R"({"model": "tiny", "prompt": "a", "max_tokens": 1e30})", 400, "max_tokens");
  expect(R"({"model": "tiny", "prompt": "a", "max_tokens": 100000})", 400, "prompt");
  expect(R"({"model": "tiny", "prompt": "a", "temperature": -1})", 400, "temperature");
  expect(R"({"model": "tiny", "prompt": "a", "temperature": "hot"})", 400, "temperature");
  expect(R"({"model": "tiny", "prompt": "a", "top_p": 0})", 400, "top_p");
  expect(R"({"model": "tiny", "prompt": "a", "n": 1000000})", 400, "n");
  expect(R"({"model": "tiny", "prompt": "a", "stop": [1]})", 400, "stop");
  expect(R"({"model": "tiny", "prompt": "a", "stop": ""})", 400, "stop");
  expect(R"({"model": "tiny", "prompt": "a", "stream": 1})", 400, "stream");
  expect(R"({"model": "tiny", "prompt": "a", "stream_options": {}})", 400, "stream_options");
  expect(R"({"model": "tiny", "prompt": "a", "seed": 1.5})", 400, "seed");
  expect(R"({"model": "tiny", "prompt": "a", "temprature": 1})", 400, "temprature");
  expect(R"({"model": "tiny", "prompt": "a", "suffix": "b"})", 400, "suffix");
  expect("[1]", 400, nullptr);
  expect("", 400, nullptr);
  expect("{\"model\": \"\xff\"}", 400, nullptr);
  expect(R"({"model": "tiny", "prompt": "a", "temperature": 1e999})", 400, nullptr);
  const char* chat = "/v1/chat/completions";
  expect(R"({"model": "tiny"})", 400, "messages", chat);
  expect(R"({"model": "tiny", "messages": []})", 400, "messages", chat);
  expect(R"({"model": "tiny", "messages": [{"role": "user"}]})", 400, "messages[0].content", chat);
  expect(R"({"model": "tiny", "messages": [{"role": 1, "content": ""}]})", 400, "messages[0].role",
         chat);
  expect(R"({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
         400, "messages[0].content", chat);
  expect(R"({"model": "tiny", "messages": [{"role": "user", "content": "a"}], "top_logprobs": 1})",
         400, "top_logprobs", chat);
  expect(R"({"model": "tiny", "messages": [{"role": "user", "content": "a"}], "tools": [1]})", 400,
         "tools", chat);
  EXPECT_EQ(server.complete({{"prompt", "still here"}})["status"], 200);
}

TEST(Api, RefusesABodyThatNestsTooDeep) {
  const TestServer server;
  const std::string deep =
      R"({"model": "tiny", "prompt": )" + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_EQ(server.post("/v1/completions", deep)["status"], 400);
}

TEST(Api, AsksForTheKey) {
  const TestServer server({}, {.key = "secret"});
  auto client = server.client();
  EXPECT_EQ(client.Get("/v1/models")->status, 401);
  EXPECT_EQ(client.Get("/metrics")->status, 401);
  EXPECT_EQ(client.Get("/health")->status, 200);
  client.set_bearer_token_auth("secre");
  EXPECT_EQ(client.Get("/v1/models")->status, 401);
  client.set_bearer_token_auth("secret");
  EXPECT_EQ(client.Get("/v1/models")->status, 200);
}

TEST(Api, TellsModelsMetricsAndStatus) {
  const TestServer server({}, {}, {}, "ma:attention=2,experts=1");
  server.complete({{"prompt", "Hello"}, {"max_tokens", 7}, {"ignore_eos", true}});
  auto client = server.client();
  EXPECT_EQ(Json::parse(client.Get("/v1/models")->body)["data"][0]["id"], "tiny");
  EXPECT_EQ(Json::parse(client.Get("/v1/models/tiny")->body)["id"], "tiny");
  EXPECT_EQ(client.Get("/v1/models/other")->status, 404);
  const std::string metrics = client.Get("/metrics")->body;
  for (const char* line :
       {"tandem_up 1\n", "tandem_generated_tokens_total 7\n", "tandem_prompt_tokens_total 5\n",
        "tandem_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 1\n",
        "tandem_time_to_first_token_seconds_bucket{le=\"+Inf\"} 1\n",
        "tandem_time_per_output_token_seconds_count 1\n", "tandem_kv_used_tokens 0\n"})
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
  const Json status = Json::parse(client.Get("/status")->body);
  EXPECT_EQ(status["generated_tokens"], 7);
  EXPECT_EQ(status["tpot_seconds"]["count"], 1);
  EXPECT_NE(client.Get("/")->body.find("<!doctype html>"), std::string::npos);
  EXPECT_EQ(Json::parse(client.Get("/nothing")->body)["error"]["type"], "not_found_error");
}

TEST(Api, SaysThatTheEngineHasFailed) {
  std::atomic<bool> fails = false;
  const TestServer server({}, {}, {}, "single", [&](Engine&) {
    if (fails) throw WorldError("rank 0 is lost");
  });
  EXPECT_EQ(server.client().Get("/health")->status, 200);
  fails = true;
  const Json cut =
      server.complete({{"prompt", "Hello"}, {"max_tokens", 100}, {"ignore_eos", true}});
  EXPECT_EQ(cut["status"], 503);
  EXPECT_EQ(cut["error"]["code"], "engine_failed");
  EXPECT_EQ(server.complete({{"prompt", "Hello"}})["status"], 503);
  const auto health = server.client().Get("/health");
  EXPECT_EQ(health->status, 503);
  EXPECT_EQ(Json::parse(health->body)["message"], "rank 0 is lost");
}

TEST(Api, ManyClientsGetWhatTheyGetAlone) {
  // Few places and little room, so that they wait and are preempted.
  const TestServer server({.sequences = 6, .kv_tokens = 6 * 64, .prefill_chunk = 40});
  std::vector<std::string> texts(12);
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 12; ++i)
      clients.emplace_back([&, i] {
        for (int round = 0; round < 3; ++round)
          texts[i] = server.complete({{"prompt", std::string(1 + 17 * i % 90, 'a')},
                                      {"max_tokens", 150},
                                      {"ignore_eos", true},
                                      {"seed", i}})["choices"][0]["text"];
      });
  }
  const ModelText text("/none", tiny_model());
  for (int i = 0; i < 12; ++i) {
    std::string bytes, expected;
    for (const int32_t token : alone(bytes_of(std::string(1 + 17 * i % 90, 'a')), 150,
                                     {.temperature = 1, .seed = static_cast<uint64_t>(i)}))
      bytes += text.token_text(token);
    text::append_repaired(expected, bytes);
    EXPECT_EQ(texts[i], expected) << i;
  }
}

}  // namespace
}  // namespace tandem::test
