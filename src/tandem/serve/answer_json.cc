#include "tandem/serve/answer_json.h"

#include "tandem/text/utf8.h"

namespace tandem {
namespace {

Json finish_reason(std::optional<Finish> finish) {
  if (!finish) return {};
  return *finish == Finish::length ? "length" : "stop";
}

Json usage(int64_t prompt_tokens, int64_t answer_tokens) {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", answer_tokens},
          {"total_tokens", prompt_tokens + answer_tokens}};
}

std::vector<int> bytes_of(const std::string& text) {
  std::vector<int> bytes;
  for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
  return bytes;
}

// A token that is not made of whole characters is told by its bytes: JSON has no place for them.
std::string token_name(const ModelText& model, int32_t token) {
  std::string bytes = model.token_text(token);
  if (text::valid_prefix(bytes) == bytes.size()) return bytes;
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

Json chat_token(const ModelText& text, int32_t token, double log_probability) {
  return {{"token", token_name(text, token)},
          {"logprob", log_probability},
          {"bytes", bytes_of(text.token_text(token))}};
}

Json chat_log_probabilities(const ModelText& text, const std::vector<TokenProbability>& tokens) {
  Json content = Json::array();
  for (const TokenProbability& token : tokens) {
    Json& entry = content.emplace_back(chat_token(text, token.token, token.log_probability));
    entry["top_logprobs"] = Json::array();
    for (const auto& [other, log_probability] : token.top)
      entry["top_logprobs"].push_back(chat_token(text, other, log_probability));
  }
  return {{"content", content}};
}

Json completion_log_probabilities(const ModelText& text,
                                  const std::vector<TokenProbability>& tokens) {
  Json names = Json::array(), values = Json::array(), tops = Json::array();
  for (const TokenProbability& token : tokens) {
    names.push_back(token_name(text, token.token));
    values.push_back(token.log_probability);
    Json top = Json::object();
    for (const auto& [other, log_probability] : token.top)
      top[token_name(text, other)] = log_probability;
    tops.push_back(std::move(top));
  }
  return {{"tokens", names}, {"token_logprobs", values}, {"top_logprobs", tops}};
}

}  // namespace

AnswerWriter::AnswerWriter(const CompletionRequest& request, const ServedModel& model,
                           std::string id, int64_t created_seconds)
    : request_(request), model_(model), id_(std::move(id)), created_seconds_(created_seconds) {}

Json AnswerWriter::envelope(bool chunk) const {
  const char* chat_object = chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", id_},
          {"object", request_.chat ? chat_object : "text_completion"},
          {"created", created_seconds_},
          {"model", model_.name}};
}

Json AnswerWriter::log_probabilities(const std::vector<TokenProbability>& tokens) const {
  if (!request_.top_logprobs) return {};
  return request_.chat ? chat_log_probabilities(model_.text, tokens)
                       : completion_log_probabilities(model_.text, tokens);
}

Json AnswerWriter::event(Json choice) const {
  Json json = envelope(true);
  json["choices"] = Json::array({std::move(choice)});
  if (request_.stream_usage) json["usage"] = nullptr;
  return json;
}

std::string AnswerWriter::stream_begin() const {
  std::string events;
  for (int64_t i = 0; request_.chat && i < request_.choices; ++i)
    events += event_text(event({{"index", i},
                                {"delta", {{"role", "assistant"}, {"content", ""}}},
                                {"logprobs", nullptr},
                                {"finish_reason", nullptr}}));
  for (size_t i = 0; i < request_.echoed.size(); ++i)
    for (int64_t choice = 0; choice < request_.choices; ++choice)
      events += event_text(event({{"index", static_cast<int64_t>(i) * request_.choices + choice},
                                  {"text", request_.echoed[i]},
                                  {"logprobs", nullptr},
                                  {"finish_reason", nullptr}}));
  return events;
}

std::string AnswerWriter::chunk(const Piece& piece) const {
  Json choice{{"index", piece.choice}};
  if (!request_.chat)
    choice["text"] = piece.text;
  else if (piece.text.empty() && piece.finish)
    choice["delta"] = Json::object();
  else
    choice["delta"] = {{"content", piece.text}};
  choice["logprobs"] = piece.tokens.empty() ? Json() : log_probabilities(piece.tokens);
  choice["finish_reason"] = finish_reason(piece.finish);
  return event_text(event(std::move(choice)));
}

std::string AnswerWriter::stream_end(int64_t prompt_tokens, int64_t answer_tokens) const {
  std::string events;
  if (request_.stream_usage) {
    Json json = envelope(true);
    json["choices"] = Json::array();
    json["usage"] = usage(prompt_tokens, answer_tokens);
    events = event_text(json);
  }
  return events + "data: [DONE]\n\n";
}

Json AnswerWriter::whole(const std::vector<Piece>& pieces, int64_t prompt_tokens,
                         int64_t answer_tokens) const {
  const auto count = static_cast<int64_t>(request_.prompts.size()) * request_.choices;
  std::vector<Piece> sums(static_cast<size_t>(count));
  for (const Piece& piece : pieces) {
    Piece& sum = sums[piece.choice];
    sum.text += piece.text;
    sum.tokens.insert(sum.tokens.end(), piece.tokens.begin(), piece.tokens.end());
    if (piece.finish) sum.finish = piece.finish;
  }
  Json json = envelope(false);
  json["choices"] = Json::array();
  for (int64_t i = 0; i < count; ++i) {
    const Piece& sum = sums[i];
    const std::string echoed =
        request_.echoed.empty() ? std::string() : request_.echoed[i / request_.choices];
    Json choice{{"index", i}};
    if (request_.chat)
      choice["message"] = {{"role", "assistant"}, {"content", sum.text}, {"refusal", nullptr}};
    else
      choice["text"] = echoed + sum.text;
    choice["logprobs"] = log_probabilities(sum.tokens);
    choice["finish_reason"] = finish_reason(sum.finish);
    json["choices"].push_back(std::move(choice));
  }
  json["usage"] = usage(prompt_tokens, answer_tokens);
  return json;
}

std::string event_text(const Json& json) { return "data: " + dump(json) + "\n\n"; }

std::optional<ApiError> error_of(Finish finish) {
  switch (finish) {
    case Finish::timed_out:
      return ApiError(504, "the request has taken longer than this server allows", {}, "timeout");
    case Finish::failed:
      return ApiError(503, "the engine has failed; see /health", {}, "engine_failed");
    case Finish::shut_down:
      return ApiError(503, "the server is shutting down", {}, "shutting_down");
    case Finish::cancelled:
      return ApiError(499, "the client has gone", {}, "cancelled");
    default:
      return {};
  }
}

}  // namespace tandem
