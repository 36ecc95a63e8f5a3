// The fields of a config.json: one table serves reading, checking and writing.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tandem/model/family.h"

namespace tandem {

// Names under which a field is read, ours first, and the one under which all of transformers has
// it. A field without that, and not renamed by the family (family.h), is written into a family's
// file only where it matters.
struct FieldNames {
  std::array<std::string_view, 4> accepted;
  std::string_view transformers = {};

  std::string_view in(std::string_view model_type) const {
    const std::string_view name = family_of(model_type).name_of(*this);
    return name.empty() ? accepted[0] : name;
  }
};

enum class Presence : uint8_t { required, optional };

struct IntegerField {
  int64_t ModelConfig::*value;
  Presence presence;
  int64_t least;
  int64_t most;
  FieldNames names;

  void check(const ModelConfig& config, const std::string& where, std::string_view path) const;
};

struct RealField {
  double ModelConfig::*value;
  double least;
  double below;
  FieldNames names;

  void check(const ModelConfig& config, const std::string& where, std::string_view path) const;
};

struct FlagField {
  bool ModelConfig::*value;
  FieldNames names;
};

constexpr int64_t largest_width = int64_t{1} << 20;
constexpr int64_t largest_length = int64_t{1} << 30;
constexpr int64_t largest_parameter_count = int64_t{1} << 50;
constexpr int64_t most_experts_of_all_layers = int64_t{1} << 20;

inline constexpr IntegerField integer_fields[] = {
    {&ModelConfig::vocab_size, Presence::required, 1, 1 << 26, {{"vocab_size"}, "vocab_size"}},
    {&ModelConfig::hidden_size,
     Presence::required,
     1,
     largest_width,
     {{"hidden_size"}, "hidden_size"}},
    {&ModelConfig::layers,
     Presence::required,
     1,
     4096,
     {{"num_hidden_layers", "num_layers"}, "num_hidden_layers"}},
    {&ModelConfig::heads,
     Presence::required,
     1,
     largest_width,
     {{"num_attention_heads"}, "num_attention_heads"}},
    {&ModelConfig::kv_heads,
     Presence::optional,
     1,
     largest_width,
     {{"num_key_value_heads"}, "num_key_value_heads"}},
    {&ModelConfig::head_dim,
     Presence::optional,
     1,
     largest_width,
     {{"head_dim", "attention_head_size"}, "head_dim"}},
    {&ModelConfig::kv_latent, Presence::optional, 0, largest_width, {{"kv_lora_rank"}}},
    {&ModelConfig::query_latent, Presence::optional, 0, largest_width, {{"q_lora_rank"}}},
    {&ModelConfig::unrotated_dim, Presence::optional, 0, largest_width, {{"qk_nope_head_dim"}}},
    {&ModelConfig::rotary_dim, Presence::optional, 0, largest_width, {{"qk_rope_head_dim"}}},
    {&ModelConfig::value_dim, Presence::optional, 0, largest_width, {{"v_head_dim"}}},
    {&ModelConfig::max_positions,
     Presence::required,
     1,
     largest_length,
     {{"max_position_embeddings"}, "max_position_embeddings"}},
    {&ModelConfig::experts, Presence::required, 1, 65536, {{"num_experts", "num_local_experts"}}},
    {&ModelConfig::top_k, Presence::required, 1, 65536, {{"num_experts_per_tok", "top_k"}}},
    {&ModelConfig::expert_hidden,
     Presence::required,
     1,
     largest_width,
     {{"moe_intermediate_size", "intermediate_size"}}},
    {&ModelConfig::shared_expert_hidden,
     Presence::optional,
     0,
     largest_width,
     {{"shared_expert_intermediate_size"}}},
    {&ModelConfig::dense_layers, Presence::optional, 0, 4096, {{"first_k_dense_replace"}}},
    {&ModelConfig::dense_hidden,
     Presence::optional,
     0,
     largest_width,
     {{"dense_intermediate_size"}}},
    {&ModelConfig::expert_groups, Presence::optional, 1, 65536, {{"n_group"}}},
    {&ModelConfig::chosen_groups, Presence::optional, 1, 65536, {{"topk_group"}}},
    {&ModelConfig::expert_capacity, Presence::optional, 0, largest_length, {{"expert_capacity"}}},
};

constexpr double largest_coefficient = 1e6;

inline constexpr RealField real_fields[] = {
    {&ModelConfig::rope_theta, 1, 1e15, {{"rope_theta"}, "rope_theta"}},
    {&ModelConfig::capacity_factor, 0, largest_coefficient, {{"capacity_factor"}}},
    {&ModelConfig::balance_loss,
     0,
     largest_coefficient,
     {
         {"aux_loss_alpha", "router_aux_loss_coef", "load_balance_loss_coef"},
     }},
    {&ModelConfig::router_bias_rate, 0, 1, {{"router_bias_update_rate"}}},
    {&ModelConfig::routing_scale, 1e-6, largest_coefficient, {{"routed_scaling_factor"}}},
    {&ModelConfig::clip_qkv, 0, largest_coefficient, {{"clip_qkv"}}},
    {&ModelConfig::z_loss, 0, largest_coefficient, {{"router_z_loss_coef"}}},
    {&ModelConfig::hidden_dropout, 0, 1, {{"hidden_dropout_prob"}}},
    {&ModelConfig::attention_dropout,
     0,
     1,
     {{"attention_probs_dropout_prob", "attention_dropout"}, "attention_dropout"}},
    {&ModelConfig::expert_dropout, 0, 1, {{"expert_dropout_prob"}}},
    {&ModelConfig::initializer_range, 0, 1000, {{"initializer_range"}, "initializer_range"}},
};

inline constexpr FlagField flag_fields[] = {
    {&ModelConfig::attention_bias, {{"attention_bias"}}},
    {&ModelConfig::query_key_value_bias, {{"qkv_bias"}}},
    {&ModelConfig::head_norm, {{"qk_norm"}}},
    {&ModelConfig::whole_norm, {{"qk_norm_whole"}}},
    {&ModelConfig::interleaved_rotary, {{"rope_interleave"}}},
    {&ModelConfig::gated_shared_expert, {{"gated_shared_expert"}}},
    {&ModelConfig::tied_embeddings, {{"tie_word_embeddings"}, "tie_word_embeddings"}},
    {&ModelConfig::gated_experts, {{"gated_experts"}}},
    {&ModelConfig::normalize_top_k, {{"norm_topk_prob"}}},
    {&ModelConfig::router_bias, {{"router_bias"}}},
    {&ModelConfig::balance_per_sequence, {{"seq_aux"}}},
};

struct RopeField {
  double RopeScaling::*value;
  FieldNames names;
  RopeScaling::Kind needed_by = RopeScaling::Kind::none;  // whose readers have no default
};
inline constexpr RopeField rope_fields[] = {
    {&RopeScaling::factor, {{"factor"}}},
    {&RopeScaling::original_positions, {{"original_max_position_embeddings"}}},
    {&RopeScaling::slow_factor, {{"low_freq_factor"}}, RopeScaling::Kind::llama3},
    {&RopeScaling::fast_factor, {{"high_freq_factor"}}, RopeScaling::Kind::llama3},
    {&RopeScaling::slow_turns, {{"beta_slow"}}},
    {&RopeScaling::fast_turns, {{"beta_fast"}}},
    {&RopeScaling::magnitude, {{"attention_factor"}}},
    {&RopeScaling::rotated_growth, {{"mscale"}}},
    {&RopeScaling::score_growth, {{"mscale_all_dim"}}},
};

// The epsilon's name says which norm it is.
inline constexpr FieldNames rms_epsilon = {{"rms_norm_eps"}, "rms_norm_eps"};
inline constexpr FieldNames layer_epsilon = {{"layer_norm_eps"}};
constexpr double least_epsilon = 1e-30;  // 0 divides by zero at a row of zeros
constexpr double largest_epsilon = 1;

constexpr int64_t largest_config_bytes = 16 << 20;

}  // namespace tandem
