#include "tandem/base/error.h"
#include "tandem/model/config.h"
#include "tandem/model/config_fields.h"
#include "tandem/model/json_text.h"
#include "tandem/model/parameters.h"

namespace tandem {

namespace {

void check_ranges(const ModelConfig& c, const std::string& where) {
  for (const IntegerField& field : integer_fields) {
    field.check(c, where, field.names.in(c.model_type));
  }
  for (const RealField& field : real_fields) field.check(c, where, field.names.in(c.model_type));
  if (!(c.norm_epsilon >= least_epsilon && c.norm_epsilon < largest_epsilon)) {
    const FieldNames& names = c.norm == NormType::layer ? layer_epsilon : rms_epsilon;
    throw InputError("{}: {} must be at least {} and below {}, not {}", where,
                     names.in(c.model_type), least_epsilon, largest_epsilon, c.norm_epsilon);
  }
}

void check_latent_attention(const ModelConfig& c, const std::string& where) {
  const auto refuse = [&](bool wrong, std::string_view field, std::string_view must) {
    if (wrong)
      throw InputError("{}: {} must be {} where kv_lora_rank is given", where, field, must);
  };
  refuse(c.rotary_dim == 0 || c.rotary_dim % 2 != 0, "qk_rope_head_dim", "even and above 0");
  refuse(c.unrotated_dim == 0, "qk_nope_head_dim", "above 0");
  refuse(c.value_dim == 0, "v_head_dim", "above 0");
  refuse(c.positions != PositionType::rotary, "position_embedding_type", "\"rotary\"");
  refuse(c.attention_bias, "attention_bias", "false");
  refuse(c.kv_heads != 1, "num_key_value_heads", "1");
  refuse(c.head_dim != c.unrotated_dim + c.rotary_dim, "head_dim",
         "qk_nope_head_dim + qk_rope_head_dim");
}

void check_attention(const ModelConfig& c, const std::string& where) {
  if (c.heads % c.kv_heads != 0) {
    throw InputError("{}: num_key_value_heads {} does not divide num_attention_heads {}", where,
                     c.kv_heads, c.heads);
  }
  if (c.heads * c.head_dim > largest_width) {
    throw InputError("{}: num_attention_heads {} times head_dim {} is more than {}", where, c.heads,
                     c.head_dim, largest_width);
  }
  if (c.latent_attention()) return check_latent_attention(c, where);
  for (const auto& [size, field] : {std::pair{c.query_latent, "q_lora_rank"},
                                    {c.unrotated_dim, "qk_nope_head_dim"},
                                    {c.rotary_dim, "qk_rope_head_dim"},
                                    {c.value_dim, "v_head_dim"}}) {
    if (size != 0) throw InputError("{}: {} is given without kv_lora_rank", where, field);
  }
  if (c.positions == PositionType::rotary && c.head_dim % 2 != 0) {
    throw InputError("{}: head_dim must be even for rotary positions, not {}", where, c.head_dim);
  }
}

void check_experts(const ModelConfig& c, const std::string& where) {
  const std::string_view experts = c.model_type == "mixtral" ? "num_local_experts" : "num_experts";
  if (c.top_k > c.experts) {
    throw InputError("{}: num_experts_per_tok {} is more than {} {}", where, c.top_k, experts,
                     c.experts);
  }
  if (c.layers * c.experts > most_experts_of_all_layers) {
    throw InputError("{}: num_hidden_layers {} times {} {} is more than {}", where, c.layers,
                     experts, c.experts, most_experts_of_all_layers);
  }
  if (c.expert_capacity > 0 && c.capacity_factor > 0) {
    throw InputError("{}: expert_capacity {} and capacity_factor {} exclude each other", where,
                     c.expert_capacity, c.capacity_factor);
  }
}

// What transformers' Mixtral cannot be would be lost when it loads the file.
void check_mixtral(const ModelConfig& c, const std::string& where) {
  const auto refuse = [&](bool wrong, std::string_view field, std::string_view must) {
    if (wrong) throw InputError("{}: {} must be {} in a mixtral model", where, field, must);
  };
  refuse(c.norm != NormType::rms, "norm_type", "\"rms\"");
  refuse(c.positions != PositionType::rotary, "position_embedding_type", "\"rotary\"");
  refuse(c.attention_bias, "attention_bias", "false");
  refuse(!c.gated_experts, "gated_experts", "true");
  refuse(!c.normalize_top_k, "norm_topk_prob", "true");
  refuse(c.shared_expert_hidden != 0, "shared_expert_intermediate_size", "0");
  refuse(c.latent_attention(), "kv_lora_rank", "absent");
}

}  // namespace

void IntegerField::check(const ModelConfig& config, const std::string& where,
                         std::string_view path) const {
  const int64_t given = config.*value;
  if (given >= least && given <= most) return;
  throw InputError("{}: {} must be from {} to {}, not {}", where, path, least, most, given);
}

void RealField::check(const ModelConfig& config, const std::string& where,
                      std::string_view path) const {
  const double given = config.*value;
  if (given >= least && given < below) return;  // NaN is in no range
  throw InputError("{}: {} must be at least {} and below {}, not {}", where, path, least, below,
                   given);
}

void check_model_type(const std::string& model_type, const std::string& where) {
  if (model_type == "mixtral" || model_type == "tandem_moe") return;
  throw InputError("{}: model_type \"{}\" is not supported; mixtral and tandem_moe are", where,
                   printable(model_type));
}

void validate(const ModelConfig& config, const std::string& where) {
  check_model_type(config.model_type, where);
  check_ranges(config, where);
  check_attention(config, where);
  check_experts(config, where);
  if (config.model_type == "mixtral") check_mixtral(config, where);
  if (config.eos_token < -1 || config.eos_token >= config.vocab_size) {
    throw InputError("{}: eos_token_id must be from 0 to vocab_size - 1 = {}, not {}", where,
                     config.vocab_size - 1, config.eos_token);
  }
  if (parameter_count(config) > largest_parameter_count) {
    throw InputError(
        "{}: hidden_size, num_hidden_layers and the experts make {} parameters, more "
        "than {}",
        where, parameter_count(config), largest_parameter_count);
  }
}

}  // namespace tandem
