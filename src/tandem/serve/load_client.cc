#include "tandem/serve/load_client.h"

#include <httplib.h>

#include "tandem/base/clock.h"
#include "tandem/base/error.h"
#include "tandem/serve/api_error.h"

namespace tandem {

// Reads a stream of events as it comes.
class LoadClient::Events {
 public:
  explicit Events(LoadAnswer& answer) : answer_(answer) {}

  void add(const char* data, size_t bytes) {
    text_.append(data, bytes);
    for (size_t end = 0; (end = text_.find('\n')) != std::string::npos; text_.erase(0, end + 1))
      take(std::string_view(text_).substr(0, end));
  }
  // Whether the stream has come to its end.
  bool done() const { return done_; }

 private:
  void take(std::string_view line) {
    constexpr std::string_view data = "data: ";
    if (!line.starts_with(data)) return;
    line.remove_prefix(data.size());
    if (line.starts_with("[DONE]")) {
      done_ = true;
      return;
    }
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || json.contains("error")) {
      answer_.error = "an error in the stream";
      return;
    }
    if (json.contains("choices") && !json["choices"].empty()) {
      answer_.last_seconds = wall_seconds();
      if (answer_.first_seconds == 0) answer_.first_seconds = answer_.last_seconds;
      if (!counted_) ++answer_.answer_tokens;  // unless we are told
    }
    if (json.contains("usage") && json["usage"].is_object()) {
      counted_ = true;
      answer_.prompt_tokens = json["usage"].value("prompt_tokens", int64_t{0});
      answer_.answer_tokens = json["usage"].value("completion_tokens", int64_t{0});
    }
  }

  LoadAnswer& answer_;
  std::string text_;
  bool done_ = false, counted_ = false;
};

LoadClient::LoadClient(const LoadSettings& settings) {
  std::string url = settings.url;
  while (url.ends_with('/')) url.pop_back();
  const size_t scheme = url.find("://");
  if (scheme == std::string::npos)
    throw InputError("--url {}: expected http://HOST:PORT", settings.url);
  const size_t path = url.find('/', scheme + 3);
  if (path != std::string::npos) {
    prefix_ = url.substr(path);
    url.resize(path);
  }
  if (prefix_.ends_with("/v1")) prefix_.resize(prefix_.size() - 3);
  client_ = std::make_unique<httplib::Client>(url);
  if (!client_->is_valid()) throw InputError("--url {}: is no address", settings.url);
  client_->set_connection_timeout(10);
  client_->set_read_timeout(static_cast<time_t>(settings.timeout_seconds));
  client_->set_write_timeout(static_cast<time_t>(settings.timeout_seconds));
  client_->set_keep_alive(true);
  client_->set_tcp_nodelay(true);
  if (!settings.key.empty()) client_->set_bearer_token_auth(settings.key.c_str());
}

LoadClient::~LoadClient() = default;

std::string LoadClient::first_model() {
  const auto result = client_->Get(prefix_ + "/v1/models");
  if (!result) throw WorldError("/v1/models: {}", httplib::to_string(result.error()));
  const Json json = Json::parse(result->body, nullptr, false);
  if (result->status != 200 || !json.is_object() || !json.contains("data") ||
      json["data"].empty() || !json["data"][0].contains("id"))
    throw WorldError("/v1/models: HTTP status {}, and no model", result->status);
  return json["data"][0]["id"].get<std::string>();
}

LoadAnswer LoadClient::complete(const std::string& body) {
  LoadAnswer answer;
  Events events(answer);
  httplib::Request request;
  request.method = "POST";
  request.path = prefix_ + "/v1/completions";
  request.set_header("Content-Type", "application/json");
  request.body = body;
  request.content_receiver = [&](const char* data, size_t bytes, uint64_t, uint64_t) {
    events.add(data, bytes);
    return true;
  };
  const auto result = client_->send(request);
  if (!result)
    answer.error = "connection: " + httplib::to_string(result.error());
  else if (result->status != 200)
    answer.error = fmt::format("HTTP status {}", result->status);
  else if (answer.error.empty() && !events.done())
    answer.error = "the stream was cut short";
  return answer;
}

}  // namespace tandem
