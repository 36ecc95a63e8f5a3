#include "tandem/serve/answer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "tandem/text/stop_filter.h"
#include "tandem/text/utf8.h"

namespace tandem {
namespace {

TokenProbability probability(int32_t token, std::span<const float> logits, int top) {
  const float most = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - most);
  const double log_sum = most + std::log(sum);
  TokenProbability result{.token = token, .log_probability = logits[token] - log_sum};
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto count = std::min<ptrdiff_t>(top, std::ssize(order));
  std::ranges::partial_sort(order, order.begin() + count, [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  });
  for (ptrdiff_t i = 0; i < count; ++i)
    result.top.emplace_back(order[i], logits[order[i]] - log_sum);
  return result;
}

}  // namespace

// Outlives the answer where the scheduler still works on its sequences.
struct Answer::Mailbox {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Piece> pieces;
  int64_t tokens = 0;
  std::atomic<bool> wanted = true;

  void put(Piece piece, int64_t drawn_tokens) {
    const std::lock_guard lock(mutex);
    tokens += drawn_tokens;
    if (piece.text.empty() && piece.tokens.empty() && !piece.finish) return;
    pieces.push_back(std::move(piece));
    changed.notify_one();
  }
};

// Used by the scheduler's thread alone, and holds all that it needs of the request.
class Answer::Choice final : public SequenceListener {
 public:
  Choice(int number, const CompletionRequest& request, const ServedModel& model,
         std::shared_ptr<Mailbox> mailbox)
      : number_(number),
        top_logprobs_(request.top_logprobs),
        stream_(model.text),
        stops_(request.stops),
        mailbox_(std::move(mailbox)) {}

  bool wanted() const override { return mailbox_->wanted; }

  bool on_token(int32_t token, std::span<const float> logits) override {
    Piece piece{.choice = number_};
    piece.text = stops_.push(whole_characters(stream_.push(token)));
    if (top_logprobs_ && !logits.empty())
      piece.tokens.push_back(probability(token, logits, *top_logprobs_));
    mailbox_->put(std::move(piece), 1);
    return !stops_.stopped();
  }

  void on_finish(Finish finish) override {
    Piece piece{.choice = number_, .finish = finish};
    std::string rest;
    text::append_repaired(rest, unfinished_ + stream_.finish());
    piece.text = stops_.push(rest) + stops_.finish();
    mailbox_->put(std::move(piece), finish == Finish::end_token ? 1 : 0);
  }

 private:
  // Models of bytes may make anything, and characters byte by byte.
  std::string whole_characters(const std::string& bytes) {
    unfinished_ += bytes;
    std::string rest =
        unfinished_.substr(unfinished_.size() - text::unfinished_suffix(unfinished_));
    unfinished_.resize(unfinished_.size() - rest.size());
    std::string whole;
    text::append_repaired(whole, std::exchange(unfinished_, std::move(rest)));
    return whole;
  }

  int number_;
  std::optional<int> top_logprobs_;
  ModelText::Stream stream_;
  std::string unfinished_;  // the beginning of a character
  StopFilter stops_;
  std::shared_ptr<Mailbox> mailbox_;
};

Answer::Answer(const CompletionRequest& request, const ServedModel& model, double deadline_seconds)
    : request_(request),
      model_(model),
      deadline_seconds_(deadline_seconds),
      mailbox_(std::make_shared<Mailbox>()) {
  for (const auto& prompt : request.prompts) prompt_tokens_ += std::ssize(prompt);
}

Answer::~Answer() { cancel(); }

std::vector<SequenceRequest> Answer::sequences() {
  std::vector<SequenceRequest> sequences;
  for (size_t prompt = 0; prompt < request_.prompts.size(); ++prompt)
    for (int64_t choice = 0; choice < request_.choices; ++choice) {
      const auto number = static_cast<int>(sequences.size());
      SequenceRequest& sequence = sequences.emplace_back();
      sequence.prompt = request_.prompts[prompt];
      sequence.max_tokens = request_.max_tokens[prompt];
      sequence.sampling = request_.sampling;
      sequence.sampling.seed += static_cast<uint64_t>(choice);
      if (!request_.ignores_end) sequence.end_token = static_cast<int32_t>(model_.config.eos_token);
      sequence.wants_logits = request_.top_logprobs.has_value();
      sequence.deadline_seconds = deadline_seconds_;
      sequence.listener = std::make_shared<Choice>(number, request_, model_, mailbox_);
    }
  unfinished_ = static_cast<int>(sequences.size());
  return sequences;
}

std::vector<Piece> Answer::take(double timeout_seconds) {
  std::unique_lock lock(mailbox_->mutex);
  mailbox_->changed.wait_for(lock, std::chrono::duration<double>(timeout_seconds),
                             [&] { return !mailbox_->pieces.empty(); });
  std::vector<Piece> pieces = std::exchange(mailbox_->pieces, {});
  for (const Piece& piece : pieces) unfinished_ -= piece.finish.has_value();
  return pieces;
}

void Answer::cancel() { mailbox_->wanted = false; }

int64_t Answer::answer_tokens() {
  const std::lock_guard lock(mailbox_->mutex);
  return mailbox_->tokens;
}

}  // namespace tandem
