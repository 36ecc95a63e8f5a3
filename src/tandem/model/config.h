// What a model is: the contents of a Hugging Face style config.json, checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tandem {

enum class NormType : uint8_t { rms, layer };
enum class PositionType : uint8_t { rotary, learned };
enum class ExpertActivation : uint8_t { silu, gelu, gelu_tanh };

struct ModelConfig {
  std::string model_type = "tandem_moe";  // "mixtral" keeps Mixtral's names and fields
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  PositionType positions = PositionType::rotary;
  double rope_theta = 10000;
  NormType norm = NormType::rms;
  double norm_epsilon = 1e-5;
  bool attention_bias = false;  // q, k, v and output projections
  bool tied_embeddings = false;

  int64_t experts = 0;
  int64_t top_k = 0;
  int64_t expert_hidden = 0;
  bool gated_experts = true;  // three matrices (SwiGLU) rather than two (GELU)
  ExpertActivation activation = ExpertActivation::silu;
  bool normalize_top_k = true;       // norm_topk_prob
  int64_t shared_expert_hidden = 0;  // 0: no shared expert
  int64_t expert_capacity = 0;       // tokens an expert takes of one sequence; 0: no limit
  double capacity_factor = 0;  // or: this times top_k * tokens of the sequence / experts; 0: none

  double balance_loss = 0;           // aux_loss_alpha / router_aux_loss_coef
  bool balance_per_sequence = true;  // seq_aux; otherwise over the global batch
  double z_loss = 0;
  double hidden_dropout = 0, attention_dropout = 0, expert_dropout = 0;
  double initializer_range = 0.02;
  int64_t eos_token = -1;  // -1: none

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

// Throw InputError naming the file and the field. Sizes are bounded so that no product overflows.
ModelConfig read_config(const std::filesystem::path& file);
ModelConfig parse_config(const std::string& json, const std::string& where);
void validate(const ModelConfig& config, const std::string& where);
std::string config_json(const ModelConfig& config);

}  // namespace tandem
