// What a plan is to do, and an engine that does it, in whatever world. Used by one thread.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "tandem/world/engine.h"

namespace tandem {

enum class WorkKind : uint8_t { decode, prefill, train };

struct Workload {
  WorkKind kind = WorkKind::decode;
  int64_t sequences = 1;         // of a step, in all
  int64_t context_tokens = 512;  // decode: before the new token; else tokens of a sequence
  int groups = 1;                // training: gradient accumulation

  // That a step takes in (prefill, training) or makes (decode).
  int64_t tokens() const {
    return kind == WorkKind::decode ? sequences : sequences * context_tokens;
  }
  friend auto operator<=>(const Workload&, const Workload&) = default;
};

// The steps of a workload, numbered from 0; sequences have slots 0, 1, ...
class WorkloadRunner {
 public:
  // Plans memory for `steps` steps. Tokens are drawn from the first `vocabulary` ones.
  WorkloadRunner(Engine& engine, const Workload& work, int64_t steps, int64_t vocabulary);

  // Decode: fills the context with keys and values. Without it their place is there, but no
  // numbers.
  void fill_context();
  void step(int64_t number);

 private:
  std::vector<int32_t> draw(int64_t count, int64_t item) const;
  void decode(int64_t number);
  void prefill();
  void train(int64_t number);

  Engine& engine_;
  Workload work_;
  int64_t vocabulary_;
  std::vector<SequenceTokens> sequences_;
};

}  // namespace tandem
