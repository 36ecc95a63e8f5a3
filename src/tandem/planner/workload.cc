#include "tandem/planner/workload.h"

#include "tandem/base/random.h"

namespace tandem {

WorkloadRunner::WorkloadRunner(Engine& engine, const Workload& work, int64_t steps,
                               int64_t vocabulary)
    : engine_(engine), work_(work), vocabulary_(vocabulary) {
  if (work.kind == WorkKind::train) return;
  engine.plan_memory(work.sequences, work.context_tokens + steps);
  const int64_t tokens = work.kind == WorkKind::decode ? 1 : work.context_tokens;
  for (int64_t s = 0; s < work.sequences; ++s)
    sequences_.push_back({.slot = static_cast<int32_t>(s), .tokens = draw(tokens, s)});
}

std::vector<int32_t> WorkloadRunner::draw(int64_t count, int64_t item) const {
  const RandomSource source(1, RandomStream::prompts);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(source.bits(item, i) % vocabulary_));
  return tokens;
}

void WorkloadRunner::fill_context() {
  std::vector<SequenceTokens> context = sequences_;
  for (SequenceTokens& sequence : context)
    sequence.tokens = draw(work_.context_tokens, sequence.slot);
  engine_.infer(context);
}

void WorkloadRunner::step(int64_t number) {
  switch (work_.kind) {
    case WorkKind::decode:
      return decode(number);
    case WorkKind::prefill:
      return prefill();
    case WorkKind::train:
      return train(number);
  }
}

void WorkloadRunner::decode(int64_t number) {
  for (SequenceTokens& sequence : sequences_)
    sequence.first_position = static_cast<int32_t>(work_.context_tokens + number);
  engine_.infer(sequences_);
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
  engine_.train(batch, {.step = number + 1, .learning_rate = 1e-6f, .groups = work_.groups});
}

}  // namespace tandem
