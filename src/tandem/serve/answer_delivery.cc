#include "tandem/serve/answer_delivery.h"

#include <ctime>
#include <iterator>

#include "tandem/base/clock.h"

namespace tandem {
namespace {

constexpr double look_again_seconds = 0.1;  // whether the client is there
// The scheduler keeps deadlines between its steps. One that does not come back from a step for so
// long after a deadline is not waited for.
constexpr double patience_seconds = 30;

}  // namespace

AnswerDelivery::AnswerDelivery(CompletionRequest request, const ServedModel& model,
                               const std::string& number, double deadline_seconds)
    : request_(std::move(request)),
      answer_(request_, model, deadline_seconds),
      writer_(request_, model, (request_.chat ? "chatcmpl-" : "cmpl-") + number,
              std::time(nullptr)),
      deadline_seconds_(deadline_seconds) {}

// What has come; ApiError where a sequence has no answer.
std::vector<Piece> AnswerDelivery::take() {
  std::vector<Piece> pieces = answer_.take(look_again_seconds);
  for (const Piece& piece : pieces)
    if (piece.finish)
      if (const auto error = error_of(*piece.finish)) throw *error;
  if (!answer_.ended() && wall_seconds() > deadline_seconds_ + patience_seconds)
    throw *error_of(Finish::timed_out);
  return pieces;
}

Json AnswerDelivery::whole(const std::function<bool()>& client_has_gone) {
  std::vector<Piece> pieces;
  while (!answer_.ended()) {
    if (client_has_gone()) throw *error_of(Finish::cancelled);
    std::ranges::move(take(), std::back_inserter(pieces));
  }
  return writer_.whole(pieces, answer_.prompt_tokens(), answer_.answer_tokens());
}

bool AnswerDelivery::write_more(httplib::DataSink& sink) {
  std::string events;
  if (!begun_) events = writer_.stream_begin();
  begun_ = true;
  bool ends = false;
  try {
    for (const Piece& piece : take()) events += writer_.chunk(piece);
    ends = answer_.ended();
    if (ends) events += writer_.stream_end(answer_.prompt_tokens(), answer_.answer_tokens());
  } catch (const ApiError& error) {
    events += event_text(error.json());
    ends = true;
  }
  if (!events.empty() && !sink.write(events.data(), events.size())) return false;
  if (ends) sink.done();
  return true;
}

}  // namespace tandem
