// What a sequence is asked for, and who is told of it.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "tandem/device/operations.h"

namespace tandem {

enum class Finish : uint8_t {
  end_token,  // the model ended it
  stopped,    // the listener has what it wants
  length,     // max_tokens
  cancelled,  // nobody wants it any more
  timed_out,  // its deadline has passed
  failed,     // the engine cannot go on
  shut_down,  // the scheduler ends
};

// Called by the scheduler's thread, which must not wait.
class SequenceListener {
 public:
  virtual ~SequenceListener() = default;
  // Asked before every step; once false, the sequence is cancelled.
  virtual bool wanted() const = 0;
  // A drawn token; not for the end token. Logits are empty unless asked for. False: enough.
  virtual bool on_token(int32_t token, std::span<const float> logits) = 0;
  // The last call.
  virtual void on_finish(Finish finish) = 0;
};

struct SequenceRequest {
  std::vector<int32_t> prompt;
  int64_t max_tokens = 1;
  Sampling sampling;  // position is filled in
  int32_t end_token = -1;
  bool wants_logits = false;
  double deadline_seconds = std::numeric_limits<double>::infinity();  // of wall_seconds()
  std::shared_ptr<SequenceListener> listener;
};

}  // namespace tandem
