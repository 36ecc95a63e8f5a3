#include "tandem/planner/workload.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/random.h"

namespace tandem {

int64_t Workload::context_of(int64_t sequence) const {
  if (context_shape.empty()) return context_tokens;
  const double share = context_shape[static_cast<size_t>(sequence % std::ssize(context_shape))];
  return std::max<int64_t>(1, std::llround(static_cast<double>(context_tokens) * share));
}

namespace {

template <class Choose>
int64_t extreme_context(const Workload& work, Choose choose) {
  int64_t extreme = work.context_of(0);
  for (int64_t s = 1; s < std::min(work.sequences, std::ssize(work.context_shape)); ++s)
    extreme = choose(extreme, work.context_of(s));
  return extreme;
}

double sum_contexts(const Workload& work, int power) {
  const auto term = [&](int64_t s) {
    return std::pow(static_cast<double>(work.context_of(s)), power);
  };
  if (work.context_shape.empty()) return static_cast<double>(work.sequences) * term(0);
  double sum = 0;
  for (int64_t s = 0; s < work.sequences; ++s) sum += term(s);
  return sum;
}

}  // namespace

int64_t Workload::shortest_context() const {
  return extreme_context(*this, [](int64_t a, int64_t b) { return std::min(a, b); });
}
int64_t Workload::longest_context() const {
  const int64_t longest =
      extreme_context(*this, [](int64_t a, int64_t b) { return std::max(a, b); });
  return kind == WorkKind::mixed ? std::max(longest, context_tokens) : longest;
}

int64_t Workload::tokens() const {
  return decodes() ? sequences + prompt_tokens() : std::llround(sum_contexts(*this, 1));
}
double Workload::cached_tokens() const { return decodes() ? sum_contexts(*this, 1) : 0; }
double Workload::attended_tokens() const {
  if (!decodes()) return sum_contexts(*this, 2) / 2;
  return cached_tokens() +
         static_cast<double>(prompt_tokens()) * static_cast<double>(context_tokens) / 2;
}

WorkloadRunner::WorkloadRunner(Engine& engine, const Workload& work, int64_t steps,
                               int64_t vocabulary)
    : engine_(engine), work_(work), vocabulary_(vocabulary) {
  if (work.kind == WorkKind::train) return;
  engine.plan_memory(work.slots(), work.longest_context() + steps);
  for (int64_t s = 0; s < work.sequences; ++s)
    sequences_.push_back({.slot = static_cast<int32_t>(s),
                          .tokens = draw(work.decodes() ? 1 : work.context_of(s), s)});
}

std::vector<int32_t> WorkloadRunner::draw(int64_t count, int64_t item) const {
  const RandomSource source(1, RandomStream::prompts);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(source.bits(item, i) % vocabulary_));
  return tokens;
}

// Prompts are at different places of their way at any time, spread evenly over it.
SequenceTokens WorkloadRunner::chunk(int64_t prompt, int64_t number) const {
  const int64_t chunks = work_.chunks();
  const int64_t first = (2 * prompt + 1) * chunks / (2 * work_.prompts);
  const int64_t at = (first + number) % chunks;
  const Interval tokens = part(work_.context_tokens, chunks, at);
  return {.slot = static_cast<int32_t>(work_.sequences + prompt),
          .first_position = static_cast<int32_t>(tokens.begin),
          .tokens = draw(tokens.size(), work_.sequences + prompt),
          .sample = at + 1 == chunks};
}

void WorkloadRunner::fill_context() {
  std::vector<SequenceTokens> context = sequences_;
  for (SequenceTokens& sequence : context)
    sequence.tokens = draw(work_.context_of(sequence.slot), sequence.slot);
  for (int64_t p = 0; work_.kind == WorkKind::mixed && p < work_.prompts; ++p) {
    SequenceTokens before = chunk(p, 0);
    if (before.first_position == 0) continue;
    before.tokens = draw(before.first_position, before.slot);
    before.first_position = 0, before.sample = false;
    context.push_back(std::move(before));
  }
  engine_.infer(context);
}

void WorkloadRunner::step(int64_t number) {
  switch (work_.kind) {
    case WorkKind::decode:
    case WorkKind::mixed:
      return decode(number);
    case WorkKind::prefill:
      return prefill();
    case WorkKind::train:
      return train(number);
  }
}

void WorkloadRunner::decode(int64_t number) {
  sequences_.resize(static_cast<size_t>(work_.sequences));
  for (SequenceTokens& sequence : sequences_)
    sequence.first_position = static_cast<int32_t>(work_.context_of(sequence.slot) + number);
  std::vector<int32_t> done;  // prompts; the next one takes the slot
  for (int64_t p = 0; work_.kind == WorkKind::mixed && p < work_.prompts; ++p) {
    sequences_.push_back(chunk(p, number));
    if (sequences_.back().sample) done.push_back(sequences_.back().slot);
  }
  engine_.infer(sequences_);
  if (!done.empty()) engine_.release(done);
}

void WorkloadRunner::prefill() {
  engine_.infer(sequences_);
  std::vector<int32_t> slots;
  for (const SequenceTokens& sequence : sequences_) slots.push_back(sequence.slot);
  engine_.release(slots);
}

void WorkloadRunner::train(int64_t number) {
  TrainingBatch batch{.sequences = work_.sequences,
                      .sequence_tokens = work_.context_tokens,
                      .inputs = draw(work_.tokens(), 0),
                      .targets = draw(work_.tokens(), 1)};
  batch.weights.assign(work_.tokens(), 1.0f);
  engine_.train(batch, {.step = number + 1,
                        .learning_rate = 1e-6f,
                        .groups = work_.groups,
                        .checkpoint_activations = work_.checkpoint_activations});
}

}  // namespace tandem
