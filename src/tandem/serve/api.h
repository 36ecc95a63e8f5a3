// The HTTP endpoints: the OpenAI API, health, metrics, status and its page. docs/serving.md says
// what each takes and gives.
#pragma once

#include <atomic>
#include <string>

#include "tandem/serve/completion_request.h"
#include "tandem/serve/http_server.h"
#include "tandem/serve/scheduler.h"
#include "tandem/serve/served_model.h"
#include "tandem/serve/status.h"

namespace tandem {

struct ApiSettings {
  std::string key;               // that clients bring; empty: none needed
  double request_seconds = 600;  // for an answer
};

// Everything given must outlive the server's last request.
class Api {
 public:
  Api(Scheduler& scheduler, const ServedModel& model, const StatusFacts& facts,
      const ApiSettings& settings);

  // Before the server starts.
  void add_to(HttpServer& server);

 private:
  using Handler = httplib::Server::Handler;
  using Parse = CompletionRequest (*)(const Json&, const ServedModel&, uint64_t seed);

  // Answers mistakes and failures, and counts.
  Handler counted(const std::string& endpoint, Handler handler);
  bool has_key(const httplib::Request& request) const;
  httplib::Server::HandlerResponse check(const httplib::Request& request,
                                         httplib::Response& response);
  void complete(Parse parse, const httplib::Request& request, httplib::Response& response);
  void tell_models(httplib::Response& response) const;
  void tell_health(httplib::Response& response) const;

  Scheduler& scheduler_;
  const ServedModel& model_;
  const StatusFacts& facts_;
  ApiSettings settings_;
  uint64_t seed_;  // of this server; requests that bring none get one that follows from it
  std::atomic<uint64_t> requests_ = 0;
};

}  // namespace tandem
