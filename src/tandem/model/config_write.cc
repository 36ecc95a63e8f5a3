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

// Into a Mixtral file go transformers' own fields; ours only where they change something.
template <class Field>
void write_field(const Field& field, const ModelConfig& config, const ModelConfig& defaults,
                 nlohmann::ordered_json& out) {
  const bool ours = config.model_type == "mixtral" && field.names.mixtral.empty();
  if (ours && config.*field.value == defaults.*field.value) return;
  out[std::string(field.names.in(config.model_type))] = config.*field.value;
}

}  // namespace

std::string config_json(const ModelConfig& config) {
  const bool mixtral = config.model_type == "mixtral";
  const ModelConfig defaults = default_config(config.model_type);
  nlohmann::ordered_json out;
  out["architectures"] = {mixtral ? "MixtralForCausalLM" : "TandemMoeForCausalLM"};
  out["model_type"] = config.model_type;
  for (const IntegerField& field : integer_fields) write_field(field, config, defaults, out);
  out["hidden_act"] = activation_name(config.activation);
  if (!mixtral) {
    out["norm_type"] = config.norm == NormType::rms ? "rms" : "layer";
    out["position_embedding_type"] =
        config.positions == PositionType::rotary ? "rotary" : "learned";
  }
  out[config.norm == NormType::rms ? "rms_norm_eps" : "layer_norm_eps"] = config.norm_epsilon;
  for (const RealField& field : real_fields) write_field(field, config, defaults, out);
  for (const FlagField& field : flag_fields) write_field(field, config, defaults, out);
  out["eos_token_id"] = nullptr;
  if (config.eos_token >= 0) out["eos_token_id"] = config.eos_token;
  if (mixtral) out["sliding_window"] = nullptr;
  return out.dump(2) + "\n";
}

}  // namespace tandem
