#include "tandem/serve/schedule.h"

#include <algorithm>

namespace tandem {
namespace {

// Keeps a queue in the order of arrival.
template <class Queue>
void insert(Queue& queue, typename Queue::value_type sequence) {
  const auto behind = std::ranges::find_if(
      queue, [&](const auto& other) { return other->number > sequence->number; });
  queue.insert(behind, std::move(sequence));
}

}  // namespace

Schedule::Schedule(Room room, int64_t prefill_chunk, Statistics& statistics)
    : room_(std::move(room)), prefill_chunk_(prefill_chunk), statistics_(statistics) {}

void Schedule::add(SequenceRequest request, double now_seconds) {
  TANDEM_CHECK(!request.prompt.empty() && request.max_tokens >= 1 &&
                   std::ssize(request.prompt) + request.max_tokens <= room_.longest_tokens(),
               "a sequence of {} + {} tokens in a room for {}", request.prompt.size(),
               request.max_tokens, room_.longest_tokens());
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens = request.prompt;
  sequence->request = std::move(request);
  sequence->number = arrived_++;
  sequence->arrival_seconds = now_seconds;
  waiting_.push_back(std::move(sequence));
}

const Schedule::Step& Schedule::next_step(double now_seconds) {
  drop_unwanted(now_seconds);
  make_room();
  admit();
  compose();
  return step_;
}

void Schedule::drop_unwanted(double now_seconds) {
  for (Queue* queue : {&running_, &waiting_})
    std::erase_if(*queue, [&](const auto& sequence) {
      const bool late = now_seconds >= sequence->request.deadline_seconds;
      const bool wanted = sequence->request.listener->wanted();
      if (wanted && !late) return false;
      finish(*sequence, wanted ? Finish::timed_out : Finish::cancelled);
      return true;
    });
}

// Every running sequence gets the blocks for the tokens it has, the oldest first.
void Schedule::make_room() {
  for (size_t i = 0; i < running_.size();)
    if (make_room_for(*running_[i])) ++i;  // else another is there now
}

// False where the sequence itself had to give way.
bool Schedule::make_room_for(const Sequence& sequence) {
  while (!room_.grow(sequence.slot, std::ssize(sequence.tokens))) {
    size_t youngest = running_.size() - 1;
    while (room_.place(running_[youngest]->slot) != room_.place(sequence.slot)) --youngest;
    const bool itself = running_[youngest].get() == &sequence;
    preempt(youngest);
    if (itself) return false;
  }
  return true;
}

void Schedule::preempt(size_t index) {
  std::unique_ptr<Sequence> sequence = std::move(running_[index]);
  running_.erase(running_.begin() + static_cast<ptrdiff_t>(index));
  leave(*sequence);
  sequence->done = 0;
  insert(waiting_, std::move(sequence));
  statistics_.preempted();
}

// Nobody passes those who came before: a long prompt would wait for ever.
void Schedule::admit() {
  while (!waiting_.empty()) {
    const auto slot = room_.admit(std::ssize(waiting_.front()->tokens));
    if (!slot) return;
    auto sequence = std::move(waiting_.front());
    waiting_.pop_front();
    sequence->slot = *slot;
    insert(running_, std::move(sequence));
  }
}

void Schedule::compose() {
  step_ = {.released = std::move(released_)};
  released_.clear();
  in_step_.clear();
  std::vector<Sequence*> prompts;
  for (const auto& sequence : running_)
    if (sequence->pending() == 1)
      run(*sequence, 1);
    else
      prompts.push_back(sequence.get());
  if (prompts.empty()) return;
  // An even share for each; what short ones leave goes to the oldest.
  const int64_t share = prefill_chunk_ / std::ssize(prompts);
  int64_t left = prefill_chunk_;
  for (const Sequence* sequence : prompts) left -= std::min(share, sequence->pending());
  for (Sequence* sequence : prompts) {
    const int64_t even = std::min(share, sequence->pending());
    const int64_t more = std::min(left, sequence->pending() - even);
    left -= more;
    if (even + more > 0) run(*sequence, even + more);
    step_.prefill_tokens += even + more;
  }
}

void Schedule::run(Sequence& sequence, int64_t tokens) {
  const auto first = sequence.tokens.begin() + sequence.done;
  SequenceTokens& item = step_.work.emplace_back();
  item.slot = sequence.slot;
  item.first_position = static_cast<int32_t>(sequence.done);
  item.tokens.assign(first, first + tokens);
  sequence.done += tokens;
  item.sample = sequence.pending() == 0;
  item.sampling = sequence.request.sampling;
  item.sampling.position = sequence.done;
  step_.wants_logits = step_.wants_logits || (item.sample && sequence.request.wants_logits);
  in_step_.push_back(&sequence);
}

void Schedule::take(const Sampled& sampled, double now_seconds) {
  size_t row = 0;
  for (size_t i = 0; i < in_step_.size(); ++i) {
    if (!step_.work[i].sample) continue;
    Sequence& sequence = *in_step_[i];
    std::span<const float> logits;
    if (sequence.request.wants_logits)
      logits = {sampled.logits.row<float>(static_cast<int64_t>(row)),
                static_cast<size_t>(sampled.logits.cols)};
    const int32_t token = sampled.tokens[row++];
    if (take_token(sequence, token, logits, now_seconds)) continue;
    std::erase_if(running_, [&](const auto& other) { return other.get() == &sequence; });
  }
}

// False where the sequence has ended.
bool Schedule::take_token(Sequence& sequence, int32_t token, std::span<const float> logits,
                          double now_seconds) {
  const SequenceRequest& request = sequence.request;
  sequence.tokens.push_back(token);
  statistics_.drawn_token();
  if (sequence.drawn() == 1) {
    sequence.first_token_seconds = now_seconds;
    statistics_.first_token(now_seconds - sequence.arrival_seconds, std::ssize(request.prompt));
  }
  std::optional<Finish> how;
  if (token == request.end_token)
    how = Finish::end_token;
  else if (!request.listener->on_token(token, logits))
    how = Finish::stopped;
  else if (sequence.drawn() == request.max_tokens)
    how = Finish::length;
  if (!how) return true;
  if (const int64_t later = sequence.drawn() - 1; later > 0)
    statistics_.later_tokens((now_seconds - sequence.first_token_seconds) /
                             static_cast<double>(later));
  finish(sequence, *how);
  return false;
}

void Schedule::leave(Sequence& sequence) {
  if (sequence.slot < 0) return;
  room_.release(sequence.slot);
  released_.push_back(sequence.slot);
  sequence.slot = -1;
}

void Schedule::finish(Sequence& sequence, Finish how) {
  leave(sequence);
  sequence.request.listener->on_finish(how);
}

void Schedule::finish_all(Finish how) {
  for (Queue* queue : {&running_, &waiting_}) {
    for (const auto& sequence : *queue) finish(*sequence, how);
    queue->clear();
  }
}

}  // namespace tandem
