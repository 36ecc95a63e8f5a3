// Which sequences run in the next step of an engine, and what of each: continuous batching.
// Sequences are admitted in the order in which they came. A step has the next token of every
// sequence that decodes, and of prompts together as many tokens as the settings allow, shared
// evenly between them. Where the K/V are used up, the youngest sequence at that place gives up its
// own and is prefilled again later, with what it has drawn: its tokens stay the same. Not
// synchronised; knows neither threads nor clocks.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "tandem/serve/room.h"
#include "tandem/serve/sequence_request.h"
#include "tandem/serve/statistics.h"
#include "tandem/world/engine.h"

namespace tandem {

class Schedule {
 public:
  // prefill_chunk: tokens of prompts in a step. `statistics` must outlive it.
  Schedule(Room room, int64_t prefill_chunk, Statistics& statistics);

  // Prompt and max_tokens together must not be more than the room's longest_tokens().
  void add(SequenceRequest request, double now_seconds);

  struct Step {
    std::vector<int32_t> released;  // slots, before the step
    std::vector<SequenceTokens> work;
    bool wants_logits = false;
    int64_t prefill_tokens = 0;
  };
  // Drops what nobody wants any more, admits, and says what is to be run; no work where nothing is
  // to be done. What it returns is good until the next call.
  const Step& next_step(double now_seconds);
  // The result of that step.
  void take(const Sampled& sampled, double now_seconds);

  void finish_all(Finish finish);

  int64_t waiting() const { return std::ssize(waiting_); }
  int64_t running() const { return std::ssize(running_); }
  const Room& room() const { return room_; }

 private:
  struct Sequence {
    SequenceRequest request;
    int64_t number = 0;           // in the order of arrival
    std::vector<int32_t> tokens;  // the prompt and what was drawn
    int64_t done = 0;             // of these, run
    int32_t slot = -1;
    double arrival_seconds = 0, first_token_seconds = 0;

    int64_t pending() const { return std::ssize(tokens) - done; }
    int64_t drawn() const { return std::ssize(tokens) - std::ssize(request.prompt); }
  };
  using Queue = std::deque<std::unique_ptr<Sequence>>;  // the oldest first

  void drop_unwanted(double now_seconds);
  void make_room();
  bool make_room_for(const Sequence& sequence);
  void preempt(size_t index);  // in running_
  void admit();
  void compose();
  void run(Sequence& sequence, int64_t tokens);
  bool take_token(Sequence& sequence, int32_t token, std::span<const float> logits,
                  double now_seconds);
  void leave(Sequence& sequence);  // its slot
  void finish(Sequence& sequence, Finish how);

  Room room_;
  int64_t prefill_chunk_;
  Statistics& statistics_;
  Queue waiting_, running_;
  int64_t arrived_ = 0;
  std::vector<int32_t> released_;
  Step step_;
  std::vector<Sequence*> in_step_;  // one for each of step_.work
};

}  // namespace tandem
