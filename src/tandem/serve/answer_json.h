// Answers as the OpenAI API writes them, whole or in chunks.
#pragma once

#include <string>
#include <vector>

#include "tandem/serve/answer.h"

namespace tandem {

class AnswerWriter {
 public:
  // Everything given must outlive it. `id` is what the client knows the answer by.
  AnswerWriter(const CompletionRequest& request, const ServedModel& model, std::string id,
               int64_t created_seconds);

  // The events of a stream, "data: ..." with the empty line behind; a chat begins with roles.
  std::string stream_begin() const;
  std::string chunk(const Piece& piece) const;
  std::string stream_end(int64_t prompt_tokens, int64_t answer_tokens) const;

  // All pieces put together.
  Json whole(const std::vector<Piece>& pieces, int64_t prompt_tokens, int64_t answer_tokens) const;

 private:
  Json envelope(bool chunk) const;
  Json log_probabilities(const std::vector<TokenProbability>& tokens) const;
  Json event(Json choice) const;

  const CompletionRequest& request_;
  const ServedModel& model_;
  std::string id_;
  int64_t created_seconds_;
};

// An event of a stream.
std::string event_text(const Json& json);

// Why a sequence has no answer, as the client is told; none for those that have.
std::optional<ApiError> error_of(Finish finish);

}  // namespace tandem
