// What a plan is to do, and an engine that does it, in whatever world. Used by one thread.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "tandem/world/engine.h"

namespace tandem {

// Mixed: a step of decoding with a chunk of some prompts beside it.
enum class WorkKind : uint8_t { decode, prefill, train, mixed };

struct Workload {
  WorkKind kind = WorkKind::decode;
  int64_t sequences = 1;         // of a step, in all; mixed: that decode
  int64_t context_tokens = 512;  // decode: before the new token; else tokens of a sequence: mean
  int groups = 1;                // training: gradient accumulation
  bool checkpoint_activations = false;  // training: less is kept, and computed again
  // Contexts as shares of their mean, by sequence, from the first again where there are more
  // sequences; empty: all alike. Not in training.
  std::vector<double> context_shape;
  // Mixed: prompts of context_tokens tokens that are taken in beside, in chunks of at most so many
  // tokens, one chunk of each prompt a step.
  int64_t prompts = 1, chunk_tokens = 512;

  bool decodes() const { return kind == WorkKind::decode || kind == WorkKind::mixed; }
  int64_t context_of(int64_t sequence) const;
  int64_t shortest_context() const;
  int64_t longest_context() const;
  int64_t chunks() const { return (context_tokens + chunk_tokens - 1) / chunk_tokens; }
  // Rows of prompts in a step.
  int64_t prompt_tokens() const {
    return kind == WorkKind::mixed ? prompts * context_tokens / chunks() : 0;
  }
  // Sequences that have keys and values.
  int64_t slots() const { return sequences + (kind == WorkKind::mixed ? prompts : 0); }
  // That a step takes in (prefill, training) or makes (decode); mixed: both.
  int64_t tokens() const;
  // Keys that a step's rows attend to, over all of them; and those of them that are read from a
  // cache for one row each.
  double attended_tokens() const;
  double cached_tokens() const;
  friend auto operator<=>(const Workload&, const Workload&) = default;
};

// The steps of a workload, numbered from 0; sequences have slots 0, 1, ..., prompts those behind.
class WorkloadRunner {
 public:
  // Plans memory for `steps` steps. Tokens are drawn from the first `vocabulary` ones.
  WorkloadRunner(Engine& engine, const Workload& work, int64_t steps, int64_t vocabulary);

  // What decodes: fills the context with keys and values. Without it their place is there, but no
  // numbers.
  void fill_context();
  void step(int64_t number);

 private:
  std::vector<int32_t> draw(int64_t count, int64_t item) const;
  SequenceTokens chunk(int64_t prompt, int64_t number) const;
  void decode(int64_t number);
  void prefill();
  void train(int64_t number);

  Engine& engine_;
  Workload work_;
  int64_t vocabulary_;
  std::vector<SequenceTokens> sequences_;
};

}  // namespace tandem
