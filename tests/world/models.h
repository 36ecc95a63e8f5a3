// Small models for tests: every part of the architecture, sizes that divide nothing evenly.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "sanitized.h"
#include "tandem/base/random.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/model/config.h"
#include "tandem/plan/shorthand.h"
#include "tandem/world/engine.h"

namespace tandem::test {

// 12 heads of 8 over 4 K/V heads, 16 experts top-2 of 40 hidden features, 4 layers.
inline ModelConfig small_model() {
  ModelConfig c;
  c.vocab_size = 97;
  c.hidden_size = 64;
  c.layers = 4;
  c.heads = 12;
  c.kv_heads = 4;
  c.head_dim = 8;
  c.max_positions = 256;
  c.experts = 16;
  c.top_k = 2;
  c.expert_hidden = 40;
  c.initializer_range = 0.2;
  c.balance_loss = 0.01;
  c.z_loss = 0.001;
  return c;
}

// As Qwen's: heads that are normed, biases of the projections in, a shared expert with a gate.
inline ModelConfig normed_model() {
  ModelConfig c = small_model();
  c.head_norm = c.query_key_value_bias = c.gated_shared_expert = true;
  c.shared_expert_hidden = 24;
  return c;
}

// The papers' flavour: LayerNorm, learned positions, GELU, biases, a shared expert, dropout, tied.
inline ModelConfig paper_model() {
  ModelConfig c = small_model();
  c.kv_heads = 12;
  c.norm = NormType::layer;
  c.positions = PositionType::learned;
  c.gated_experts = false;
  c.activation = ExpertActivation::gelu;
  c.normalize_top_k = false;
  c.attention_bias = true;
  c.tied_embeddings = true;
  c.shared_expert_hidden = 24;
  c.hidden_dropout = c.attention_dropout = c.expert_dropout = 0.1;
  return c;
}

// Latent attention, as DeepSeek's, and a shared expert.
inline ModelConfig latent_model() {
  ModelConfig c = small_model();
  c.kv_heads = 1;
  c.kv_latent = 20;
  c.query_latent = 28;
  c.unrotated_dim = 7;
  c.rotary_dim = 6;
  c.head_dim = 13;
  c.value_dim = 9;
  c.router_bias = true;
  c.shared_expert_hidden = 24;
  return c;
}

// Queries straight from the hidden features, as in DeepSeek-V2-Lite.
inline ModelConfig latent_model_without_query_latent() {
  ModelConfig c = latent_model();
  c.query_latent = 0;
  return c;
}

// As DeepSeek-V3: a first layer that is dense, experts in groups chosen by sigmoids with biases,
// neighbours rotated, YaRN that scales the scores.
inline ModelConfig deepseek_model() {
  ModelConfig c = latent_model();
  c.dense_layers = 1;
  c.dense_hidden = 44;
  c.router_score = RouterScore::sigmoid;
  c.z_loss = 0;
  c.top_k = 3;
  c.expert_groups = 4;
  c.chosen_groups = 2;
  c.routing_scale = 1.5;
  c.interleaved_rotary = true;
  c.rope_scaling = {.kind = RopeScaling::Kind::yarn,
                    .factor = 4,
                    .original_positions = 64,
                    .rotated_growth = 0.8,
                    .score_growth = 0.7};
  return c;
}

// As OLMoE: queries and keys normed over all heads at once, and clipped.
inline ModelConfig olmoe_model() {
  ModelConfig c = small_model();
  c.whole_norm = true;
  c.clip_qkv = 1.5;
  c.normalize_top_k = false;
  return c;
}

inline std::vector<int32_t> random_tokens(uint64_t seed, uint64_t item, int64_t count,
                                          int64_t vocabulary) {
  const RandomSource source(seed, RandomStream::prompts);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(source.bits(item, i) % vocabulary));
  return tokens;
}

// Prompts of different lengths, then greedy decoding: every step's logits and tokens, by sequence.
struct Generation {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> logits;  // [sequence][step * vocabulary]
};

inline Generation generate(Engine& engine, const std::vector<std::vector<int32_t>>& prompts,
                           int steps, int64_t chunk = 1 << 20, float temperature = 0,
                           const std::function<void(int step)>& before_step = {}) {
  const auto count = static_cast<int32_t>(prompts.size());
  engine.plan_memory(count, 200);
  Generation result{.tokens = {prompts.size(), std::vector<int32_t>()},
                    .logits = {prompts.size(), std::vector<float>()}};
  std::vector<std::vector<int32_t>> pending = prompts;
  std::vector<int32_t> done(prompts.size(), 0);
  const auto unfinished = [&](const auto& tokens) {
    return static_cast<int>(tokens.size()) < steps;
  };
  for (int step = 0; std::ranges::any_of(result.tokens, unfinished); ++step) {
    if (before_step) before_step(step);
    std::vector<SequenceTokens> work;
    for (int32_t s = 0; s < count; ++s) {
      if (!unfinished(result.tokens[s])) continue;
      const auto take = std::min<int64_t>(chunk, static_cast<int64_t>(pending[s].size()));
      SequenceTokens item{.slot = s,
                          .first_position = done[s],
                          .tokens = {pending[s].begin(), pending[s].begin() + take}};
      item.sample = take == static_cast<int64_t>(pending[s].size());
      item.sampling = {.temperature = temperature,
                       .top_k = 20,
                       .top_p = 0.9f,
                       .seed = 7,
                       .position = done[s] + take};
      pending[s].erase(pending[s].begin(), pending[s].begin() + take);
      done[s] += static_cast<int32_t>(take);
      work.push_back(std::move(item));
    }
    const Sampled sampled = engine.infer(work, true);
    size_t i = 0;
    for (const SequenceTokens& item : work) {
      if (!item.sample) continue;
      const float* row = sampled.logits.row<float>(static_cast<int64_t>(i));
      result.logits[item.slot].insert(result.logits[item.slot].end(), row,
                                      row + engine.model().vocab_size);
      result.tokens[item.slot].push_back(sampled.tokens[i]);
      pending[item.slot] = {sampled.tokens[i]};
      ++i;
    }
  }
  return result;
}

inline Generation generate(const Plan& plan, ParameterStore& store,
                           const std::vector<std::vector<int32_t>>& prompts, int steps,
                           int64_t chunk = 1 << 20, int threads = 1, float temperature = 0) {
  Engine engine(plan, store, {.threads = threads, .rank = {.timeout_seconds = 60}});
  return generate(engine, prompts, steps, chunk, temperature);
}

inline std::vector<std::string> inference_plans() {
  return {"single:micro_batches=3",
          "tp:ranks=2",
          "tp:ranks=8",
          "tp:ranks=5,split=2",
          "tp:ranks=12,micro_batches=2",
          "pp:stages=2",
          "pp:stages=4,micro_batches=4",
          "tp-pp:ranks=8,stages=2",
          "ep:ranks=2",
          "ep:ranks=16",
          "ep:ranks=4,stages=2",
          "ma:attention=1,experts=1",
          "ma:attention=1,experts=1,micro_batches=2",
          "ma:attention=8,experts=8",
          "ma:attention=8,experts=8,sequence=2,micro_batches=2",
          "ma:attention=12,experts=4",
          "ma:attention=12,experts=4,exchange=sums",
          "ma:attention=5,experts=3,micro_batches=4",
          "ma:attention=3,experts=5",
          "ma:attention=1,experts=15",
          "ma:attention=4,experts=2,batch=2,sequence=2",
          "ma:attention=2,experts=3,replicas=2",
          "ma:attention=2,experts=4,split=2",
          "ma:attention=2,experts=2,stages=2,micro_batches=2",
          "ma:attention=2,experts=1,copies=2",
          "tp:ranks=2,copies=2,micro_batches=2",
          "ma:attention=5,experts=3,partial=1,micro_batches=2",
          "ma:attention=1,experts=20"};
}

// All of them; under a sanitizer, which is many times slower, those in which ranks meet each other
// in different ways.
inline std::vector<std::string> plans_to_try(std::vector<std::string> plans) {
  if (!sanitized) return plans;
  static const std::set<std::string> chosen = {
      "tp:ranks=5,split=2",
      "ep:ranks=4,stages=2",
      "ma:attention=8,experts=8",
      "ma:attention=8,experts=8,sequence=2,micro_batches=2",
      "ma:attention=12,experts=4",
      "ma:attention=5,experts=3,micro_batches=4",
      "ma:attention=3,experts=5,micro_batches=3",
      "ma:attention=4,experts=2,batch=2,sequence=2",
      "ma:attention=2,experts=2,stages=2,micro_batches=2",
      "tp:ranks=2,copies=2,micro_batches=2"};
  std::erase_if(plans, [](const std::string& plan) { return !chosen.contains(plan); });
  return plans;
}

inline ParameterStore random_store(const ModelConfig& config, DType dtype, uint64_t seed = 1) {
  const auto device = make_cpu_device(1);
  return ParameterStore::random(config, seed, dtype, *device);
}

}  // namespace tandem::test
