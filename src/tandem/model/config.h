// What a model is: the contents of a Hugging Face style config.json, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tandem {

enum class NormType : uint8_t { rms, layer };
enum class PositionType : uint8_t { rotary, learned };
enum class ExpertActivation : uint8_t { silu, gelu, gelu_tanh };
// What an expert is worth to a token, by its logit.
enum class RouterScore : uint8_t { softmax, sigmoid };

// rope_scaling: rotary positions for texts longer than those of training (rotary.h).
struct RopeScaling {
  enum class Kind : uint8_t { none, linear, llama3, yarn };
  Kind kind = Kind::none;
  double factor = 1;
  double original_positions = 0;            // original_max_position_embeddings
  double slow_factor = 1, fast_factor = 4;  // llama3: low_freq_factor, high_freq_factor
  double slow_turns = 1, fast_turns = 32;   // yarn: beta_slow, beta_fast
  double magnitude = 0;                     // yarn: attention_factor; 0: from the factor
  // yarn as DeepSeek has it: mscale and mscale_all_dim, which latent attention scales its scores
  // by.
  double rotated_growth = 0, score_growth = 0;
  friend bool operator==(const RopeScaling&, const RopeScaling&) = default;
};

struct ModelConfig {
  std::string model_type = "tandem_moe";  // a family (family.h) keeps its own names and fields
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;
  // Multi-head latent attention (DeepSeek-V2, 2024): the keys and values of all heads are made out
  // of one latent row a token, kv_latent numbers and rotary_dim rotated ones. Then kv_heads is 1
  // and head_dim, the width of a query head, unrotated_dim + rotary_dim.
  int64_t kv_latent = 0;      // kv_lora_rank; 0: keys and values have heads of their own
  int64_t query_latent = 0;   // q_lora_rank; 0: queries come from the hidden features
  int64_t unrotated_dim = 0;  // qk_nope_head_dim
  int64_t rotary_dim = 0;     // qk_rope_head_dim
  int64_t value_dim = 0;      // v_head_dim
  int64_t max_positions = 0;
  PositionType positions = PositionType::rotary;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  NormType norm = NormType::rms;
  double norm_epsilon = 1e-5;
  bool attention_bias = false;        // q, k, v and output projections
  bool query_key_value_bias = false;  // those three alone
  bool head_norm = false;             // queries and keys are normed head by head
  bool whole_norm = false;            // or over all heads at once (OLMoE)
  double clip_qkv = 0;                // queries, keys and values are kept within +- this; 0: free
  bool interleaved_rotary = false;    // neighbours are rotated, not columns of two halves
  bool tied_embeddings = false;

  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t expert_hidden = 0;
  bool gated_experts = true;  // three matrices (SwiGLU) rather than two (GELU)
  ExpertActivation activation = ExpertActivation::silu;
  bool normalize_top_k = true;       // norm_topk_prob
  int64_t shared_expert_hidden = 0;  // 0: no shared expert
  bool gated_shared_expert = false;  // its result is weighted by a sigmoid of the token's own
  // The first layers have no experts: there the shared one is as wide as dense_hidden, not gated,
  // and takes every token alone.
  int64_t dense_layers = 0;  // first_k_dense_replace
  int64_t dense_hidden = 0;
  int64_t expert_capacity = 0;  // tokens an expert takes of one sequence; 0: no limit
  double capacity_factor = 0;   // or: this times top_k * tokens of the sequence / experts; 0: none

  // Experts stand in expert_groups groups of neighbours, and a token's are chosen from its best
  // chosen_groups of them: those with the best expert, or with router_bias the best pair.
  RouterScore router_score = RouterScore::softmax;
  int64_t expert_groups = 1, chosen_groups = 1;  // n_group, topk_group
  double routing_scale = 1;  // routed_scaling_factor: of the weights, in the end
  // Experts are chosen by probability + a bias of their own, which is moved by so much after each
  // training step: up where an expert had fewer tokens than the mean, else down (DeepSeek-V3's
  // balancing without an auxiliary loss).
  bool router_bias = false;
  double router_bias_rate = 0.001;
  double balance_loss = 0;           // aux_loss_alpha / router_aux_loss_coef
  bool balance_per_sequence = true;  // seq_aux; otherwise over the global batch
  double z_loss = 0;
  double hidden_dropout = 0, attention_dropout = 0, expert_dropout = 0;
  double initializer_range = 0.02;
  int64_t eos_token = -1;  // -1: none

  // Whether experts take so many tokens of a sequence: owners of its rows count them.
  bool latent_attention() const { return kv_latent > 0; }
  bool biased_projections() const { return attention_bias || query_key_value_bias; }
  // Of one layer: whether it has experts, how many serve a token, how wide the shared one is.
  bool has_experts(int64_t layer) const { return layer >= dense_layers; }
  int64_t top_k_of(int64_t layer) const { return has_experts(layer) ? top_k : 0; }
  int64_t shared_hidden_of(int64_t layer) const {
    return has_experts(layer) ? shared_expert_hidden : dense_hidden;
  }
  bool gates_shared_expert(int64_t layer) const {
    return has_experts(layer) && shared_expert_hidden > 0 && gated_shared_expert;
  }
  int64_t expert_layers() const { return layers - dense_layers; }
  // Columns of a head: its rotated part, at the end; its key and value as attention reads them; its
  // result as the output projection takes it.
  int64_t rotated_dim() const { return latent_attention() ? rotary_dim : head_dim; }
  int64_t key_dim() const { return latent_attention() ? kv_latent + rotary_dim : head_dim; }
  int64_t attended_dim() const { return latent_attention() ? kv_latent : head_dim; }
  int64_t output_dim() const { return latent_attention() ? value_dim : head_dim; }
  // What attention keeps of a token for some K/V heads. A latent row is key and value at once.
  int64_t cache_width(int64_t kv_heads_held) const {
    return kv_heads_held * (latent_attention() ? key_dim() : 2 * head_dim);
  }

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// Throw InputError naming the file and the field. Sizes are bounded so that no product overflows.
ModelConfig read_config(const std::filesystem::path& file);
ModelConfig parse_config(const std::string& json, const std::string& where);
void validate(const ModelConfig& config, const std::string& where);
std::string config_json(const ModelConfig& config);

}  // namespace tandem
