#include "tandem/model/family.h"

#include <algorithm>

#include "tandem/base/error.h"
#include "tandem/model/config_fields.h"
#include "tandem/model/json_text.h"

namespace tandem {
namespace {

constexpr std::pair<std::string_view, std::string_view> one_size = {"moe_intermediate_size",
                                                                    "intermediate_size"};
constexpr std::pair<std::string_view, std::string_view> own_size = {"moe_intermediate_size",
                                                                    "moe_intermediate_size"};
constexpr std::pair<std::string_view, std::string_view> balance = {"aux_loss_alpha",
                                                                   "router_aux_loss_coef"};
constexpr Family known[] = {
    {.model_type = "tandem_moe",
     .architecture = "TandemMoeForCausalLM",
     .mixture = "block_sparse_moe.",
     .gate = "w1",
     .up = "w3",
     .down = "w2"},
    {.model_type = "mixtral",
     .architecture = "MixtralForCausalLM",
     .mixture = "block_sparse_moe.",
     .gate = "w1",
     .up = "w3",
     .down = "w2",
     .renamed = {{{"num_experts", "num_local_experts"}, one_size, balance}}},
    {.model_type = "qwen2_moe",
     .architecture = "Qwen2MoeForCausalLM",
     .mixture = "mlp.",
     .gate = "gate_proj",
     .up = "up_proj",
     .down = "down_proj",
     .renamed = {{own_size, balance}}},
    {.model_type = "qwen3_moe",
     .architecture = "Qwen3MoeForCausalLM",
     .mixture = "mlp.",
     .gate = "gate_proj",
     .up = "up_proj",
     .down = "down_proj",
     .renamed = {{own_size, balance}}},
#define TANDEM_DENSE(type, name)                                                      \
  {                                                                                   \
    .model_type = type, .architecture = name, .mixture = "mlp.", .gate = "gate_proj", \
    .up = "up_proj", .down = "down_proj", .dense = true, .renamed = {                 \
      {one_size, {"num_experts", ""}}                                                 \
    }                                                                                 \
  }
    TANDEM_DENSE("llama", "LlamaForCausalLM"),
    TANDEM_DENSE("mistral", "MistralForCausalLM"),
    TANDEM_DENSE("qwen2", "Qwen2ForCausalLM"),
    TANDEM_DENSE("qwen3", "Qwen3ForCausalLM"),
#undef TANDEM_DENSE
};

}  // namespace

const Family& family_of(std::string_view model_type, std::string_view where) {
  const auto found = std::ranges::find(known, model_type, &Family::model_type);
  if (found != std::end(known)) return *found;
  std::string names;
  for (const Family& family : known)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", family.model_type);
  throw InputError("{}: model_type \"{}\" is not supported; these are: {}", where,
                   printable(model_type), names);
}

std::string_view Family::name_of(const FieldNames& names) const {
  for (const auto& [usual, here] : renamed)
    if (usual == names.accepted[0]) return here;
  return ours() ? names.accepted[0] : names.transformers;
}

// As in transformers, whose files may leave these out.
ModelConfig default_config(const Family& family) {
  ModelConfig config;
  config.model_type = family.model_type;
  if (family.ours()) return config;
  config.balance_per_sequence = false;
  config.norm_epsilon = 1e-6;
  if (family.dense) config.experts = config.top_k = 1;
  if (family.model_type == "mixtral") {
    config.kv_heads = 8;
    config.rope_theta = 1e6;
    config.norm_epsilon = 1e-5;
  }
  if (!family.dense) config.balance_loss = 0.001;
  config.query_key_value_bias = family.model_type.starts_with("qwen2");
  config.head_norm = family.model_type.starts_with("qwen3");
  config.gated_shared_expert = family.model_type == "qwen2_moe";
  config.normalize_top_k = family.model_type == "mixtral" || family.dense;
  return config;
}

}  // namespace tandem
