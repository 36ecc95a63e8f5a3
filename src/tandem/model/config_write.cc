#include <cmath>
#include <nlohmann/json.hpp>

#include "tandem/model/config.h"
#include "tandem/model/config_fields.h"

namespace tandem {

namespace {

std::string_view activation_name(ExpertActivation activation) {
  switch (activation) {
    case ExpertActivation::silu:
      return "silu";
    case ExpertActivation::gelu:
      return "gelu";
    case ExpertActivation::gelu_tanh:
      break;
  }
  return "gelu_new";
}

// Into a family's file go transformers' own fields; others only where they change something.
template <class Field>
void write_field(const Field& field, const ModelConfig& config, const ModelConfig& defaults,
                 nlohmann::ordered_json& out) {
  const bool usual = !family_of(config.model_type).name_of(field.names).empty();
  if (!usual && config.*field.value == defaults.*field.value) return;
  out[std::string(field.names.in(config.model_type))] = config.*field.value;
}

nlohmann::ordered_json rope_json(const RopeScaling& scaling) {
  constexpr std::string_view names[] = {"default", "linear", "llama3", "yarn"};
  const RopeScaling defaults;
  nlohmann::ordered_json out{{"rope_type", names[static_cast<size_t>(scaling.kind)]}};
  for (const RopeField& field : rope_fields) {
    const double value = scaling.*field.value;
    const bool counts = field.value == &RopeScaling::original_positions;
    if (value == defaults.*field.value && scaling.kind != field.needed_by) continue;
    auto& written = out[std::string(field.names.accepted[0])];
    if (counts)
      written = std::llround(value);
    else
      written = value;
  }
  return out;
}

// What a latent family's file calls by the names of other sizes.
ModelConfig as_stored(ModelConfig config, const Family& family) {
  if (!family.latent) return config;
  config.shared_expert_hidden /= config.expert_hidden;
  config.kv_heads = config.heads;
  config.head_dim = config.rotary_dim;
  return config;
}

}  // namespace

std::string config_json(const ModelConfig& model) {
  const Family& family = family_of(model.model_type);
  const ModelConfig config = as_stored(model, family);
  const ModelConfig defaults = default_config(family);
  nlohmann::ordered_json out;
  out["architectures"] = {family.architecture};
  out["model_type"] = config.model_type;
  for (const IntegerField& field : integer_fields) write_field(field, config, defaults, out);
  out["hidden_act"] = activation_name(config.activation);
  if (family.ours()) {
    out["norm_type"] = config.norm == NormType::rms ? "rms" : "layer";
    out["position_embedding_type"] =
        config.positions == PositionType::rotary ? "rotary" : "learned";
  }
  if (config.router_score != defaults.router_score || family.latent)
    out["scoring_func"] = config.router_score == RouterScore::softmax ? "softmax" : "sigmoid";
  if (family.latent) {
    const bool grouped = config.expert_groups > 1;
    out["topk_method"] = config.router_bias ? "noaux_tc"
                         : grouped          ? "group_limited_greedy"
                                            : "greedy";
    if (config.query_latent == 0) out["q_lora_rank"] = nullptr;
  }
  out[config.norm == NormType::rms ? "rms_norm_eps" : "layer_norm_eps"] = config.norm_epsilon;
  for (const RealField& field : real_fields) write_field(field, config, defaults, out);
  for (const FlagField& field : flag_fields) write_field(field, config, defaults, out);
  out["eos_token_id"] = nullptr;
  if (config.eos_token >= 0) out["eos_token_id"] = config.eos_token;
  if (!family.ours()) out["sliding_window"] = nullptr;
  if (config.rope_scaling.kind != RopeScaling::Kind::none)
    out["rope_scaling"] = rope_json(config.rope_scaling);
  return out.dump(2) + "\n";
}

}  // namespace tandem
