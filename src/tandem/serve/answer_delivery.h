// Brings an answer to its client, whole or as a stream of events. Used by the client's thread.
#pragma once

#include <httplib.h>

#include <functional>
#include <string>

#include "tandem/serve/answer.h"
#include "tandem/serve/answer_json.h"

namespace tandem {

class AnswerDelivery {
 public:
  // The model must outlive it. deadline_seconds: of wall_seconds().
  AnswerDelivery(CompletionRequest request, const ServedModel& model, const std::string& number,
                 double deadline_seconds);
  AnswerDelivery(const AnswerDelivery&) = delete;
  AnswerDelivery& operator=(const AnswerDelivery&) = delete;

  bool streams() const { return request_.stream; }
  std::vector<SequenceRequest> sequences() { return answer_.sequences(); }

  // Waits for all of it. ApiError where there is no answer; `client_has_gone` is asked now and
  // then.
  Json whole(const std::function<bool()>& client_has_gone);
  // Writes what has come, after a wait. False where the client does not take it.
  bool write_more(httplib::DataSink& sink);

 private:
  std::vector<Piece> take();

  CompletionRequest request_;
  Answer answer_;
  AnswerWriter writer_;
  double deadline_seconds_;
  bool begun_ = false;
};

}  // namespace tandem
