// The sequences of one request on their way to its client: the scheduler's thread puts tokens in,
// the client's thread takes text out.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/serve/completion_request.h"
#include "tandem/serve/sequence_request.h"

namespace tandem {

// A token and what the model thought of it: natural logarithms of probabilities at temperature 1.
struct TokenProbability {
  int32_t token = 0;
  double log_probability = 0;
  std::vector<std::pair<int32_t, double>> top;  // likeliest first
};

// Something new of one sequence.
struct Piece {
  int choice = 0;
  std::string text;                      // whole characters, valid UTF-8, nothing of a stop text
  std::vector<TokenProbability> tokens;  // where asked for
  std::optional<Finish> finish;
};

class Answer {
 public:
  // Everything given must outlive what sequences() gives.
  Answer(const CompletionRequest& request, const ServedModel& model, double deadline_seconds);
  ~Answer();  // the sequences are cancelled

  // What is to be submitted; choices are numbered prompt by prompt.
  std::vector<SequenceRequest> sequences();

  // What has come since it was last asked, in order; waits for the first of it, at most so long.
  std::vector<Piece> take(double timeout_seconds);
  bool ended() const { return unfinished_ == 0; }  // every sequence has, and all of it was taken
  void cancel();

  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t answer_tokens();

 private:
  struct Mailbox;
  class Choice;

  const CompletionRequest& request_;
  const ServedModel& model_;
  double deadline_seconds_;
  int64_t prompt_tokens_ = 0;
  int unfinished_ = 0;
  std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace tandem
