#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/config_files.h"
#include "model/refusal.h"
#include "tandem/model/config.h"
#include "tandem/model/parameters.h"

namespace tandem {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json tandem_moe_with_routers() {
  return json::parse(R"({
    "model_type": "tandem_moe", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "num_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 96})");
}

// As transformers writes it for DeepSeek-V2-Lite.
json deepseek_v2() {
  return json::parse(R"({
    "architectures": ["DeepseekV2ForCausalLM"], "attention_bias": false, "aux_loss_alpha": 0.001,
    "bos_token_id": 100000, "eos_token_id": 100001, "first_k_dense_replace": 1,
    "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "model_type": "deepseek_v2", "moe_intermediate_size": 1408,
    "moe_layer_freq": 1, "n_group": 1, "n_routed_experts": 64, "n_shared_experts": 2,
    "norm_topk_prob": false, "num_attention_heads": 16, "num_experts_per_tok": 6,
    "num_hidden_layers": 27, "num_key_value_heads": 16, "q_lora_rank": null,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "rms_norm_eps": 1e-06,
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707,
      "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 1.0, "scoring_func": "softmax", "seq_aux": true,
    "tie_word_embeddings": false, "topk_group": 1, "topk_method": "greedy", "v_head_dim": 128,
    "vocab_size": 102400})");
}

TEST(DeepSeekConfig, ReadsDeepSeekV2Lite) {
  const ModelConfig c = parse(deepseek_v2());
  EXPECT_EQ(c.kv_heads, 1);
  EXPECT_EQ(c.head_dim, 192);
  EXPECT_EQ(c.query_latent, 0);
  EXPECT_EQ(c.dense_layers, 1);
  EXPECT_EQ(c.dense_hidden, 10944);
  EXPECT_EQ(c.shared_expert_hidden, 2 * 1408);
  EXPECT_EQ(c.rope_scaling.score_growth, 0.707);
  EXPECT_TRUE(c.interleaved_rotary);
  EXPECT_EQ(parameter_count(c), 15'706'484'224);  // as published
  int64_t elements = 0;
  for (const Parameter& p : parameters(c)) elements += p.elements();
  EXPECT_EQ(elements, parameter_count(c));
  const json out = json::parse(config_json(c)), in = deepseek_v2();
  for (const char* field :
       {"first_k_dense_replace", "intermediate_size", "kv_lora_rank", "moe_intermediate_size",
        "n_group", "n_routed_experts", "n_shared_experts", "norm_topk_prob", "num_attention_heads",
        "num_experts_per_tok", "num_key_value_heads", "q_lora_rank", "qk_nope_head_dim",
        "qk_rope_head_dim", "routed_scaling_factor", "topk_group", "topk_method", "v_head_dim"}) {
    ASSERT_TRUE(out.contains(field)) << field;
    EXPECT_EQ(out[field], in[field]) << field;
  }
  expect_round_trip(c);
}

TEST(DeepSeekConfig, EveryOptionOfRoutersSurvivesWriting) {
  ModelConfig c = parse(tandem_moe_with_routers());
  c.router_score = RouterScore::sigmoid;
  c.expert_groups = 4;
  c.chosen_groups = 2;
  c.routing_scale = 2.5;
  c.dense_layers = 1;
  c.dense_hidden = 40;
  c.whole_norm = c.interleaved_rotary = true;
  c.clip_qkv = 8;
  expect_round_trip(c);
}

class DeepSeekMistake : public testing::TestWithParam<Mistake> {};

TEST_P(DeepSeekMistake, IsRefusedByName) {
  json value = deepseek_v2();
  value[GetParam().field] = GetParam().value;
  EXPECT_THAT(refusal([&] { parse(value); }),
              AllOf(HasSubstr("config.json: "), HasSubstr(GetParam().message)));
}

json fp8(const char* field, const json& value) {
  json config = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", json::array({128, 128})}};
  config[field] = value;
  return config;
}

INSTANTIATE_TEST_SUITE_P(
    DeepSeekConfig, DeepSeekMistake,
    testing::Values(
        Mistake{"first_k_dense_replace", -1, "first_k_dense_replace must be from 0 to 4096"},
        Mistake{"first_k_dense_replace", 27, "leaves none of 27 layers with experts"},
        Mistake{"intermediate_size", 0, "intermediate_size must be above 0 where first_k_dense"},
        Mistake{"n_routed_experts", nullptr, "n_routed_experts is missing"},
        Mistake{"n_routed_experts", 5, "num_experts_per_tok 6 is more than n_routed_experts 5"},
        Mistake{"n_shared_experts", -2, "n_shared_experts must be from 0"},
        Mistake{"n_shared_experts", 1 << 20, "n_shared_experts must be from 0 to 1048576"},
        Mistake{"topk_method", "best", "topk_method must be one of greedy, group_limited_greedy"},
        Mistake{"scoring_func", "sigmoid", "scoring_func must be \"softmax\" in a deepseek_v2"},
        Mistake{"norm_topk_prob", true, "norm_topk_prob must be false in a deepseek_v2 model"},
        Mistake{"kv_lora_rank", nullptr, "kv_lora_rank"},
        Mistake{"kv_lora_rank", 0, "qk_nope_head_dim is given without kv_lora_rank"},
        Mistake{"qk_rope_head_dim", 63, "qk_rope_head_dim must be even"},
        Mistake{"moe_layer_freq", 2, "moe_layer_freq 2 is not supported"},
        Mistake{"rope_interleave", false, "rope_interleave must be true in a deepseek_v2 model"},
        Mistake{"routed_scaling_factor", 0, "routed_scaling_factor must be at least"},
        Mistake{"rope_scaling", {{"type", "yarn"}, {"factor", 4}, {"mscale", -1}}, "mscale must"},
        Mistake{"quantization_config", 3, "quantization_config: "},
        Mistake{"quantization_config", fp8("quant_method", "awq"), "quant_method must be \"fp8\""},
        Mistake{"quantization_config", fp8("weight_block_size", json::array({64, 64})),
                "weight_block_size must be [128,128]"}));

TEST(DeepSeekConfig, RefusesGroupsThatDoNotFit) {
  json groups = deepseek_v2();
  groups["topk_method"] = "group_limited_greedy";
  groups["n_group"] = 7;
  EXPECT_THAT(refusal([&] { parse(groups); }),
              HasSubstr("n_group 7 does not divide n_routed_experts 64"));
  groups["n_group"] = 8;
  groups["topk_group"] = 9;
  EXPECT_THAT(refusal([&] { parse(groups); }), HasSubstr("topk_group 9 is more than n_group 8"));
  groups["n_group"] = 16;
  groups["topk_group"] = 1;
  EXPECT_THAT(refusal([&] { parse(groups); }),
              HasSubstr("num_experts_per_tok 6 is more than the 4 experts of topk_group 1"));
}

}  // namespace
}  // namespace tandem
