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
  refuse(c.query_key_value_bias, "qkv_bias", "false");
  refuse(c.head_norm, "qk_norm", "false");
  refuse(c.whole_norm, "qk_norm_whole", "false");
  refuse(c.clip_qkv > 0, "clip_qkv", "absent");
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
  if ((c.head_norm || c.whole_norm) && c.norm != NormType::rms)
    throw InputError("{}: qk_norm goes with norm_type \"rms\" alone", where);
  if (c.head_norm && c.whole_norm)
    throw InputError("{}: qk_norm and qk_norm_whole exclude each other", where);
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
  const std::string_view experts = FieldNames{{"num_experts"}}.in(c.model_type);
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
  if (c.dense_layers >= c.layers) {
    throw InputError("{}: first_k_dense_replace {} leaves none of {} layers with experts", where,
                     c.dense_layers, c.layers);
  }
  if (c.dense_layers > 0 && c.dense_hidden == 0) {
    throw InputError("{}: {} must be above 0 where first_k_dense_replace is", where,
                     FieldNames{{"dense_intermediate_size"}}.in(c.model_type));
  }
  if (c.router_score == RouterScore::sigmoid && c.z_loss > 0)
    throw InputError("{}: router_z_loss_coef goes with scoring_func \"softmax\" alone", where);
}

void check_groups(const ModelConfig& c, const std::string& where) {
  if (c.experts % c.expert_groups != 0) {
    throw InputError("{}: n_group {} does not divide {} {}", where, c.expert_groups,
                     FieldNames{{"num_experts"}}.in(c.model_type), c.experts);
  }
  if (c.chosen_groups > c.expert_groups) {
    throw InputError("{}: topk_group {} is more than n_group {}", where, c.chosen_groups,
                     c.expert_groups);
  }
  const int64_t choice = c.experts / c.expert_groups * c.chosen_groups;
  if (c.top_k > choice) {
    throw InputError("{}: num_experts_per_tok {} is more than the {} experts of topk_group {}",
                     where, c.top_k, choice, c.chosen_groups);
  }
}

// What a family of transformers cannot be would be lost when it loads the file.
void check_family(const ModelConfig& c, const Family& family, const std::string& where) {
  const auto refuse = [&](bool wrong, std::string_view field, std::string_view must) {
    if (wrong)
      throw InputError("{}: {} must be {} in a {} model", where, field, must, family.model_type);
  };
  const ModelConfig fixed = default_config(family);
  const auto as_fixed = [&](bool ModelConfig::*flag, std::string_view field) {
    refuse(c.*flag != fixed.*flag, field, fixed.*flag ? "true" : "false");
  };
  const bool qwen2_moe = family.model_type == "qwen2_moe";
  refuse(c.norm != NormType::rms, "norm_type", "\"rms\"");
  refuse(c.positions != PositionType::rotary, "position_embedding_type", "\"rotary\"");
  refuse(!c.gated_experts, "gated_experts", "true");
  const bool olmoe = family.model_type == "olmoe", v3 = family.model_type == "deepseek_v3";
  if (family.model_type != "llama" && !family.model_type.starts_with("qwen3") && !olmoe)
    as_fixed(&ModelConfig::attention_bias, "attention_bias");
  if (!family.model_type.ends_with("_moe") && !olmoe && !v3)
    as_fixed(&ModelConfig::normalize_top_k, "norm_topk_prob");
  as_fixed(&ModelConfig::query_key_value_bias, "qkv_bias");
  as_fixed(&ModelConfig::head_norm, "qk_norm");
  as_fixed(&ModelConfig::gated_shared_expert, "gated_shared_expert");
  if (!family.latent)
    refuse((c.shared_expert_hidden != 0) != qwen2_moe, "shared_expert_intermediate_size",
           qwen2_moe ? "above 0" : "0");
  else
    refuse(c.shared_expert_hidden % c.expert_hidden != 0, "shared_expert_intermediate_size",
           "a multiple of moe_intermediate_size");
  refuse(family.dense && c.experts != 1, "num_experts", "1");
  refuse(c.latent_attention() != family.latent, "kv_lora_rank",
         family.latent ? "above 0" : "absent");
  refuse(c.router_score != fixed.router_score, "scoring_func", v3 ? "\"sigmoid\"" : "\"softmax\"");
  refuse(c.expert_groups > 1 && !family.latent, "n_group", "1");
  refuse(c.routing_scale != 1 && !family.latent, "routed_scaling_factor", "1");
  refuse(c.dense_layers > 0 && !family.latent, "first_k_dense_replace", "0");
  refuse(c.clip_qkv > 0 && !olmoe, "clip_qkv", "absent");
  as_fixed(&ModelConfig::whole_norm, "qk_norm_whole");
  if (!v3) as_fixed(&ModelConfig::interleaved_rotary, "rope_interleave");
  as_fixed(&ModelConfig::router_bias, "router_bias");
}

void check_rope(const ModelConfig& c, const std::string& where) {
  const RopeScaling& s = c.rope_scaling;
  if (s.kind == RopeScaling::Kind::none) return;
  const auto refuse = [&](bool wrong, std::string_view field, std::string_view must) {
    if (wrong) throw InputError("{}: rope_scaling: {} must be {}", where, field, must);
  };
  const auto positive = [](double x) { return x > 0 && x < 1e12; };
  refuse(!positive(s.factor), "factor", "above 0");
  refuse(!positive(s.original_positions), "original_max_position_embeddings", "above 0");
  refuse(!positive(s.slow_factor) || !(s.fast_factor > s.slow_factor), "high_freq_factor",
         "above low_freq_factor, and that above 0");
  refuse(!positive(s.slow_turns) || !(s.fast_turns > s.slow_turns), "beta_fast",
         "above beta_slow, and that above 0");
  refuse(!(s.magnitude >= 0 && s.magnitude < 1e6), "attention_factor", "above 0");
  refuse(!(s.rotated_growth >= 0 && s.rotated_growth < 1e6), "mscale", "above 0");
  refuse(!(s.score_growth >= 0 && s.score_growth < 1e6), "mscale_all_dim", "above 0");
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

void validate(const ModelConfig& config, const std::string& where) {
  const Family& family = family_of(config.model_type, where);
  check_ranges(config, where);
  check_attention(config, where);
  check_experts(config, where);
  check_groups(config, where);
  if (!family.ours()) check_family(config, family, where);
  check_rope(config, where);
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
