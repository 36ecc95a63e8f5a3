// A server of the tiny model in this process, and clients for it.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "serve/model.h"
#include "tandem/serve/api.h"

namespace tandem::test {

struct TestServer {
  explicit TestServer(const SchedulerSettings& settings = {}, const ApiSettings& api_settings = {},
                      HttpSettings http_settings = {}, const std::string& plan = "single",
                      const BetweenSteps& between_steps = {})
      : engine(tiny_engine(plan)),
        scheduler(*engine, settings, between_steps),
        model(served_model(scheduler.longest_tokens())),
        facts{.model = "tiny", .plan = plan, .layers = 2, .experts = 4},
        api(scheduler, *model, facts, api_settings),
        server(http_settings) {
    api.add_to(server);
    server.start();
  }
  ~TestServer() { server.stop_serving(); }

  httplib::Client client() const {
    httplib::Client client("127.0.0.1", server.port());
    client.set_read_timeout(600);
    client.set_keep_alive(true);
    client.set_tcp_nodelay(true);
    return client;
  }
  // The answer to a request, parsed; its status under "status".
  Json post(const std::string& path, const std::string& body) const {
    const auto result = client().Post(path, body, "application/json");
    EXPECT_TRUE(result) << httplib::to_string(result.error());
    if (!result) return {};
    Json json = Json::parse(result->body, nullptr, false);
    EXPECT_TRUE(json.is_object()) << result->body;
    json["status"] = result->status;
    return json;
  }
  Json complete(const Json& fields) const {
    Json body{{"model", "tiny"}};
    body.update(fields);
    return post("/v1/completions", body.dump());
  }
  std::string stream(const std::string& path, const Json& body) const {
    const auto result = client().Post(path, body.dump(), "application/json");
    EXPECT_TRUE(result);
    return result ? result->body : "";
  }

  std::unique_ptr<Engine> engine;
  Scheduler scheduler;
  std::unique_ptr<ServedModel> model;
  StatusFacts facts;
  Api api;
  HttpServer server;
};

// The JSON of a stream's events; the last must be [DONE].
inline std::vector<Json> events_of(const std::string& stream) {
  std::vector<Json> events;
  bool done = false;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = stream.find("\n\n", at);
    EXPECT_NE(end, std::string::npos);
    EXPECT_FALSE(done);
    const std::string data = stream.substr(at + 6, end - at - 6);
    EXPECT_EQ(stream.substr(at, 6), "data: ");
    done = data == "[DONE]";
    if (!done) events.push_back(Json::parse(data));
    at = end + 2;
  }
  EXPECT_TRUE(done) << stream;
  return events;
}

}  // namespace tandem::test
