#include "tandem/serve/api.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <random>

#include "tandem/base/clock.h"
#include "tandem/base/random.h"
#include "tandem/serve/answer_delivery.h"
#include "tandem/serve/fields.h"
#include "tandem/serve/page.h"
#include "tandem/serve/prometheus.h"

namespace tandem {
namespace {

constexpr const char* json_type = "application/json";

void answer_error(const ApiError& error, httplib::Response& response) {
  response.status = error.status();
  response.set_content(dump(error.json()), json_type);
}

// What the HTTP library has to say by itself: no such path, a body that is too large.
ApiError library_error(const httplib::Request& request, int status) {
  if (status == 404) return {404, fmt::format("there is no {} {}", request.method, request.path)};
  if (status == 413) return {413, "the body is larger than this server takes"};
  return {status, fmt::format("HTTP status {}", status)};
}

std::array<unsigned char, SHA256_DIGEST_LENGTH> digest(const std::string& text) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> result{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), result.data());
  return result;
}

Json model_json(const ServedModel& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created_seconds},
          {"owned_by", "tandem"},
          {"max_model_len", model.context_tokens}};
}

ApiError error_of(Refusal refusal, const Scheduler& scheduler) {
  if (refusal == Refusal::queue_full)
    return {429, "the queue is full; try again later", {}, "queue_full"};
  if (refusal == Refusal::shutting_down)
    return {503, "the server is shutting down", {}, "shutting_down"};
  return {503,
          fmt::format("the engine has failed: {}", scheduler.failure().value_or("")),
          {},
          "engine_failed"};
}

}  // namespace

Api::Api(Scheduler& scheduler, const ServedModel& model, const StatusFacts& facts,
         const ApiSettings& settings)
    : scheduler_(scheduler), model_(model), facts_(facts), settings_(settings) {
  if (!(settings.request_seconds > 0))
    throw InputError("--request-seconds {}: must be positive", settings.request_seconds);
  std::random_device device;
  seed_ = mix(device(), device());
}

void Api::add_to(HttpServer& server) {
  using Request = httplib::Request;
  using Response = httplib::Response;
  server.set_pre_routing_handler(
      [this](const Request& request, Response& response) { return check(request, response); });
  server.set_error_handler(Handler([](const Request& request, Response& response) {
    if (response.body.empty()) answer_error(library_error(request, response.status), response);
  }));
  server.Post("/v1/completions",
              counted("/v1/completions", [this](const Request& request, Response& response) {
                complete(parse_completion, request, response);
              }));
  server.Post("/v1/chat/completions",
              counted("/v1/chat/completions", [this](const Request& request, Response& response) {
                complete(parse_chat, request, response);
              }));
  server.Get("/v1/models", counted("/v1/models", [this](const Request&, Response& response) {
               tell_models(response);
             }));
  server.Get("/v1/models/(.+)",
             counted("/v1/models", [this](const Request& request, Response& response) {
               if (request.matches[1] != model_.name)
                 throw ApiError(404, "there is no such model here", "model", "model_not_found");
               response.set_content(dump(model_json(model_)), json_type);
             }));
  server.Get("/health", [this](const Request&, Response& response) { tell_health(response); });
  server.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(prometheus_text(scheduler_.statistics(), !scheduler_.failure()),
                         "text/plain; version=0.0.4");
  });
  server.Get("/status", [this](const Request&, Response& response) {
    response.set_content(dump(status_json(facts_, scheduler_)), json_type);
  });
  server.Get("/", [](const Request&, Response& response) {
    const std::string_view page = status_page();
    response.set_content(page.data(), page.size(), "text/html; charset=utf-8");
  });
}

Api::Handler Api::counted(const std::string& endpoint, Handler handler) {
  return [this, endpoint, handler = std::move(handler)](const httplib::Request& request,
                                                        httplib::Response& response) {
    response.status = 200;
    try {
      handler(request, response);
    } catch (const ApiError& error) {
      answer_error(error, response);
    } catch (const InputError& error) {
      answer_error({400, error.what()}, response);
    } catch (const std::exception& error) {
      answer_error({500, error.what()}, response);
    }
    scheduler_.statistics().answered(endpoint, response.status);
  };
}

// Takes as long for a wrong key as for the right one.
bool Api::has_key(const httplib::Request& request) const {
  const auto given = digest(request.get_header_value("Authorization"));
  const auto wanted = digest("Bearer " + settings_.key);
  return CRYPTO_memcmp(given.data(), wanted.data(), wanted.size()) == 0;
}

// Before a body is read.
httplib::Server::HandlerResponse Api::check(const httplib::Request& request,
                                            httplib::Response& response) {
  const bool open = request.path == "/" || request.path == "/health";
  if (!open && !settings_.key.empty() && !has_key(request)) {
    response.set_header("WWW-Authenticate", "Bearer");
    answer_error({401, "the API key is missing or wrong", {}, "invalid_api_key"}, response);
    return httplib::Server::HandlerResponse::Handled;
  }
  // The library would unpack it to any size.
  if (request.has_header("Content-Encoding")) {
    answer_error({415, "a body with Content-Encoding is not taken"}, response);
    return httplib::Server::HandlerResponse::Handled;
  }
  return httplib::Server::HandlerResponse::Unhandled;
}

void Api::complete(Parse parse, const httplib::Request& request, httplib::Response& response) {
  const double deadline_seconds = wall_seconds() + settings_.request_seconds;
  const uint64_t number = ++requests_;
  auto delivery = std::make_shared<AnswerDelivery>(
      parse(parse_body(request.body), model_, mix(seed_, number)), model_,
      fmt::format("{:08x}{:08x}", static_cast<uint32_t>(seed_), number), deadline_seconds);
  if (const auto refusal = scheduler_.submit(delivery->sequences()))
    throw error_of(*refusal, scheduler_);
  if (!delivery->streams()) {
    const auto gone = [&] { return HttpServer::client_has_gone(request); };
    response.set_content(dump(delivery->whole(gone)), json_type);
    return;
  }
  response.set_header("Cache-Control", "no-cache");
  response.set_chunked_content_provider(
      "text/event-stream",
      [delivery](size_t, httplib::DataSink& sink) { return delivery->write_more(sink); });
}

void Api::tell_models(httplib::Response& response) const {
  const Json list{{"object", "list"}, {"data", Json::array({model_json(model_)})}};
  response.set_content(dump(list), json_type);
}

void Api::tell_health(httplib::Response& response) const {
  const auto failure = scheduler_.failure();
  response.status = failure ? 503 : 200;
  Json json{{"status", failure ? "failed" : "ok"}};
  if (failure) json["message"] = *failure;
  response.set_content(dump(json), json_type);
}

}  // namespace tandem
