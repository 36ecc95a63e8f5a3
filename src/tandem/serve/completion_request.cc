#include "tandem/serve/completion_request.h"

#include "tandem/serve/fields.h"

namespace tandem {
namespace {

constexpr int64_t most_sequences = 128;  // of one request
constexpr size_t most_stops = 16, longest_stop_bytes = 256;

void read_model(Fields& fields, const ServedModel& model) {
  const auto name = fields.string("model");
  if (!name) fields.fail("model", "is missing");
  if (*name != model.name)
    throw ApiError(
        404, fmt::format("the model '{}' is not here; '{}' is", name->substr(0, 200), model.name),
        "model", "model_not_found");
}

void read_sampling(Fields& fields, uint64_t seed, Sampling& sampling) {
  sampling.temperature = static_cast<float>(fields.number("temperature", 0, 2).value_or(1));
  sampling.top_p = static_cast<float>(fields.number("top_p", 0, 1).value_or(1));
  if (!(sampling.top_p > 0)) fields.fail("top_p", "must be more than 0");
  sampling.top_k = static_cast<int32_t>(fields.integer("top_k", 0, INT32_MAX).value_or(0));
  sampling.seed = fields.bits("seed").value_or(seed);
}

std::vector<std::string> read_stops(Fields& fields) {
  const Json* value = fields.find("stop");
  if (!value) return {};
  const Json list = value->is_string() ? Json::array({*value}) : *value;
  std::vector<std::string> stops;
  if (!list.is_array() || list.size() > most_stops)
    fields.fail("stop", fmt::format("must be a text or a list of up to {}", most_stops));
  for (const Json& stop : list) {
    if (!stop.is_string() || stop.get_ref<const std::string&>().empty() ||
        stop.get_ref<const std::string&>().size() > longest_stop_bytes)
      fields.fail("stop", fmt::format("each must be a text of 1 to {} bytes", longest_stop_bytes));
    stops.push_back(stop.get<std::string>());
  }
  return stops;
}

void read_stream(Fields& fields, CompletionRequest& request) {
  request.stream = fields.boolean("stream").value_or(false);
  const Json* options = fields.find("stream_options");
  if (!options) return;
  if (!options->is_object()) fields.fail("stream_options", "must be an object");
  if (!request.stream) fields.fail("stream_options", "is for streams only");
  Fields inner(*options, "stream_options.");
  request.stream_usage = inner.boolean("include_usage").value_or(false);
  inner.ignore({"include_obfuscation"});
  inner.finish();
}

// What both endpoints have.
void read_common(Fields& fields, const ServedModel& model, uint64_t seed,
                 CompletionRequest& request) {
  read_model(fields, model);
  read_sampling(fields, seed, request.sampling);
  request.choices = fields.integer("n", 1, most_sequences).value_or(1);
  request.stops = read_stops(fields);
  request.ignores_end = fields.boolean("ignore_eos").value_or(false);
  read_stream(fields, request);
  for (const char* penalty : {"presence_penalty", "frequency_penalty"})
    fields.refuse_unless(penalty, {0});
  fields.refuse_unless("logit_bias", {Json::object()});
  fields.ignore(
      {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"});
}

int64_t read_max_tokens(Fields& fields, std::initializer_list<const char*> names) {
  int64_t tokens = 0;
  for (const char* name : names)
    if (const auto given = fields.integer(name, 1, INT32_MAX)) tokens = *given;
  return tokens;
}

// Otherwise: where nothing was asked for. Whatever comes out fits.
void set_max_tokens(CompletionRequest& request, const ServedModel& model, int64_t asked,
                    int64_t otherwise, const char* field) {
  for (const auto& prompt : request.prompts) {
    if (prompt.empty()) throw ApiError(400, fmt::format("'{}': is empty", field), field);
    const int64_t left = model.context_tokens - std::ssize(prompt);
    if (left < std::max<int64_t>(asked, 1))
      throw ApiError(
          400,
          fmt::format("{} tokens in '{}' and {} to come: there is room for {} together",
                      prompt.size(), field, std::max<int64_t>(asked, 1), model.context_tokens),
          field, "context_length_exceeded");
    request.max_tokens.push_back(asked > 0 ? asked : std::min(otherwise, left));
  }
}

std::vector<int32_t> tokens_of(const Json& list, const ServedModel& model) {
  std::vector<int32_t> tokens;
  for (const Json& id : list) {
    const bool known = id.is_number_unsigned() &&
                       id.get<uint64_t>() < static_cast<uint64_t>(model.config.vocab_size);
    if (!known)
      throw ApiError(400,
                     fmt::format("'prompt': token ids are whole numbers from 0 to {}",
                                 model.config.vocab_size - 1),
                     "prompt");
    tokens.push_back(id.get<int32_t>());
  }
  return tokens;
}

// A text, token ids, or a list of either.
void read_prompts(Fields& fields, const ServedModel& model, CompletionRequest& request) {
  const Json& prompt = fields.get("prompt");
  const auto add = [&](const Json& one) {
    if (one.is_string())
      request.prompts.push_back(model.text.encode(one.get<std::string>(), true));
    else if (one.is_array())
      request.prompts.push_back(tokens_of(one, model));
    else
      fields.fail("prompt", "must be a text, token ids, or a list of either");
  };
  const bool is_list = prompt.is_array() && !prompt.empty() && !prompt.front().is_number();
  if (!is_list) return add(prompt);
  if (std::ssize(prompt) * request.choices > most_sequences)
    fields.fail("prompt",
                fmt::format("prompts times 'n' must not be more than {}", most_sequences));
  for (const Json& one : prompt) add(one);
}

std::string text_of(const ServedModel& model, const std::vector<int32_t>& tokens) {
  ModelText::Stream stream(model.text);
  std::string text;
  for (const int32_t token : tokens) text += stream.push(token);
  return text + stream.finish();
}

// A message's text may come in parts.
std::string content_of(const Json& content, const std::string& where) {
  if (content.is_null()) return {};
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw ApiError(400, fmt::format("'{}': must be a text", where), where);
  std::string text;
  for (const Json& part : content) {
    const bool is_text = part.is_object() && part.value("type", Json()) == "text" &&
                         part.contains("text") && part.at("text").is_string();
    if (!is_text)
      throw ApiError(400, fmt::format("'{}': only parts of type 'text' are supported", where),
                     where);
    text += part.at("text").get<std::string>();
  }
  return text;
}

Json messages_of(Fields& fields) {
  const Json& messages = fields.get("messages");
  if (!messages.is_array() || messages.empty())
    fields.fail("messages", "must be a list of messages, not empty");
  Json result = Json::array();
  for (const Json& message : messages) {
    const std::string where = fmt::format("messages[{}]", result.size());
    if (!message.is_object())
      throw ApiError(400, fmt::format("'{}': must be an object", where), where);
    Fields inner(message, where + ".");
    Json& plain = result.emplace_back(message);
    if (!inner.get("role").is_string()) inner.fail("role", "must be a text");
    plain["content"] = content_of(inner.get("content"), where + ".content");
  }
  return result;
}

}  // namespace

CompletionRequest parse_completion(const Json& body, const ServedModel& model, uint64_t seed) {
  CompletionRequest request;
  Fields fields(body);
  read_common(fields, model, seed, request);
  read_prompts(fields, model, request);
  constexpr int64_t usual_tokens = 16;
  set_max_tokens(request, model, read_max_tokens(fields, {"max_tokens"}), usual_tokens, "prompt");
  if (const auto count = fields.integer("logprobs", 0, 20))
    request.top_logprobs = static_cast<int>(*count);
  if (fields.boolean("echo").value_or(false)) {
    if (request.top_logprobs) fields.fail("echo", "has no log probabilities: leave out 'logprobs'");
    for (const auto& prompt : request.prompts) request.echoed.push_back(text_of(model, prompt));
  }
  fields.refuse_unless("suffix", {""});
  fields.refuse_unless("best_of", {request.choices});
  fields.finish();
  return request;
}

CompletionRequest parse_chat(const Json& body, const ServedModel& model, uint64_t seed) {
  CompletionRequest request{.chat = true};
  Fields fields(body);
  read_common(fields, model, seed, request);
  if (!model.chat)
    throw ApiError(
        400, fmt::format("the model '{}' has no chat template: use /v1/completions", model.name),
        "model", "no_chat_template");
  const Json messages = messages_of(fields);
  std::string text;
  try {
    text = model.chat->render({{"messages", messages}, {"add_generation_prompt", true}});
  } catch (const InputError& error) {
    throw ApiError(400, fmt::format("'messages': {}", error.what()), "messages");
  }
  request.prompts.push_back(model.text.encode(text, false));
  set_max_tokens(request, model, read_max_tokens(fields, {"max_tokens", "max_completion_tokens"}),
                 INT64_MAX, "messages");
  const auto count = fields.integer("top_logprobs", 0, 20);
  if (fields.boolean("logprobs").value_or(false))
    request.top_logprobs = static_cast<int>(count.value_or(0));
  else if (count)
    fields.fail("top_logprobs", "needs 'logprobs': true");
  fields.refuse_unless("tools", {Json::array()});
  fields.refuse_unless("tool_choice", {"none", "auto"});
  fields.refuse_unless("response_format", {Json::object({{"type", "text"}})});
  fields.ignore({"parallel_tool_calls"});
  fields.finish();
  return request;
}

}  // namespace tandem
