#include "tandem/model/family.h"

#include <algorithm>

#include "tandem/base/error.h"
#include "tandem/model/config_fields.h"
#include "tandem/model/json_text.h"

namespace tandem {
namespace {

using Name = Family::Name;

constexpr Name one_size = {"moe_intermediate_size", "intermediate_size"};
constexpr Name own_size = {"moe_intermediate_size", "moe_intermediate_size"};
constexpr Name balance = {"aux_loss_alpha", "router_aux_loss_coef"};

constexpr Name mixtral_names[] = {{"num_experts", "num_local_experts"}, one_size, balance};
constexpr Name qwen_names[] = {own_size, balance};
constexpr Name olmoe_names[] = {
    {"num_experts", "num_experts"}, one_size, balance, {"norm_topk_prob", "norm_topk_prob"}};
constexpr Name dense_names[] = {one_size, {"num_experts", ""}};
// What transformers takes for granted where a file does not say it is not what others mean by it.
constexpr Name deepseek_names[] = {{"num_experts", "n_routed_experts"},
                                   {"num_experts_per_tok", "num_experts_per_tok"},
                                   own_size,
                                   {"shared_expert_intermediate_size", "n_shared_experts"},
                                   {"first_k_dense_replace", "first_k_dense_replace"},
                                   {"dense_intermediate_size", "intermediate_size"},
                                   {"n_group", "n_group"},
                                   {"topk_group", "topk_group"},
                                   {"kv_lora_rank", "kv_lora_rank"},
                                   {"q_lora_rank", "q_lora_rank"},
                                   {"qk_nope_head_dim", "qk_nope_head_dim"},
                                   {"qk_rope_head_dim", "qk_rope_head_dim"},
                                   {"v_head_dim", "v_head_dim"},
                                   {"routed_scaling_factor", "routed_scaling_factor"},
                                   {"aux_loss_alpha", "aux_loss_alpha"},
                                   {"seq_aux", "seq_aux"},
                                   {"norm_topk_prob", "norm_topk_prob"}};

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
     .named = mixtral_names},
    {.model_type = "qwen2_moe",
     .architecture = "Qwen2MoeForCausalLM",
     .mixture = "mlp.",
     .gate = "gate_proj",
     .up = "up_proj",
     .down = "down_proj",
     .named = qwen_names},
    {.model_type = "qwen3_moe",
     .architecture = "Qwen3MoeForCausalLM",
     .mixture = "mlp.",
     .gate = "gate_proj",
     .up = "up_proj",
     .down = "down_proj",
     .named = qwen_names},
    {.model_type = "olmoe",
     .architecture = "OlmoeForCausalLM",
     .mixture = "mlp.",
     .gate = "gate_proj",
     .up = "up_proj",
     .down = "down_proj",
     .named = olmoe_names},
#define TANDEM_DEEPSEEK(type, name)                                                    \
  {                                                                                    \
    .model_type = type, .architecture = name, .mixture = "mlp.", .gate = "gate_proj",  \
    .up = "up_proj", .down = "down_proj", .shared = "shared_experts.", .latent = true, \
    .named = deepseek_names                                                            \
  }
    TANDEM_DEEPSEEK("deepseek_v2", "DeepseekV2ForCausalLM"),
    TANDEM_DEEPSEEK("deepseek_v3", "DeepseekV3ForCausalLM"),
#undef TANDEM_DEEPSEEK
#define TANDEM_DENSE(type, name)                                                      \
  {                                                                                   \
    .model_type = type, .architecture = name, .mixture = "mlp.", .gate = "gate_proj", \
    .up = "up_proj", .down = "down_proj", .dense = true, .named = dense_names         \
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
  for (const auto& [usual, here] : named)
    if (usual == names.accepted[0]) return here;
  return ours() ? names.accepted[0] : names.transformers;
}

// As in transformers, whose files may leave these out.
ModelConfig default_config(const Family& family) {
  ModelConfig config;
  config.model_type = family.model_type;
  if (family.ours()) return config;
  config.norm_epsilon = 1e-6;
  config.normalize_top_k = false;
  if (family.dense) config.experts = config.top_k = 1;
  if (family.model_type == "mixtral") {
    config.kv_heads = 8;
    config.rope_theta = 1e6;
    config.norm_epsilon = 1e-5;
  }
  if (!family.dense) config.balance_loss = 0.001;
  if (family.model_type == "olmoe") {
    config.balance_loss = 0.01;
    config.norm_epsilon = 1e-5;
    config.whole_norm = true;
  }
  config.interleaved_rotary = config.balance_per_sequence = family.latent;
  if (family.model_type == "deepseek_v3") {
    config.balance_loss = 0;
    config.router_bias = config.normalize_top_k = true;
    config.router_score = RouterScore::sigmoid;
  }
  config.query_key_value_bias = family.model_type.starts_with("qwen2");
  config.head_norm = family.model_type.starts_with("qwen3");
  config.gated_shared_expert = family.model_type == "qwen2_moe";
  config.normalize_top_k |= family.model_type == "mixtral" || family.dense;
  return config;
}

}  // namespace tandem
