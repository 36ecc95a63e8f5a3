// The same work under several plans: what `tandem compare` measures. Used by one thread.
#pragma once

#include <string>
#include <vector>

#include "tandem/trace/metrics.h"
#include "tandem/world/generate.h"

namespace tandem::cli {

// Bytes by rank, in the order of ranks.
struct RankBytes {
  std::vector<int64_t> parameters;  // what the rank computes with; held once in the process
  std::vector<int64_t> kv_cache;
  std::vector<int64_t> activations;  // at their peak, with message buffers and tables

  int64_t total(size_t rank) const { return parameters[rank] + kv_cache[rank] + activations[rank]; }
};

struct PlanResult {
  std::string name;                // as given
  std::vector<std::string> roles;  // of each rank
  GenerateTimes times;
  Metrics decode;  // over the decode steps alone
  RankBytes bytes;
  bool same_tokens = true;
  double max_relative_error = 0;       // of the logits, against the reference
  std::vector<int64_t> expert_tokens;  // [layer][expert], of prefill and decode
  // A few decode steps for a timeline.
  std::vector<RankSpans> step_spans;
  TimeWindow step_window;

  int ranks() const { return static_cast<int>(roles.size()); }
  double tokens_per_second() const;  // of decode, all sequences together
  double tpot_seconds() const;
  double prefill_tokens_per_second() const;
};

// Greedy decoding of the same prompts under one plan after the other. The first run is the
// reference that the others' tokens and logits are held against.
class Comparison {
 public:
  Comparison(ParameterStore& store, MakeWorld make_world, std::vector<std::vector<int32_t>> prompts,
             int64_t new_tokens)
      : store_(store),
        make_world_(std::move(make_world)),
        prompts_(std::move(prompts)),
        new_tokens_(new_tokens) {}

  void make_reference(const Plan& plan);
  PlanResult run(const std::string& name, const Plan& plan);

 private:
  void check_outputs(Engine& engine, PlanResult& result) const;
  void measure_speed(Engine& engine, PlanResult& result) const;
  GenerateSettings generate_settings() const { return {.new_tokens = new_tokens_}; }

  ParameterStore& store_;
  MakeWorld make_world_;
  std::vector<std::vector<int32_t>> prompts_;
  int64_t new_tokens_;
  std::vector<std::vector<int32_t>> tokens_;  // of the reference, by sequence
  std::vector<std::vector<float>> logits_;    // [sequence][step * vocabulary]
};

// `count` prompts of `length` tokens, drawn from the seed; no two are the same where the vocabulary
// allows it.
std::vector<std::vector<int32_t>> random_prompts(uint64_t seed, int64_t count, int64_t length,
                                                 int64_t vocabulary);

}  // namespace tandem::cli
