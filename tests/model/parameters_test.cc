#include "tandem/model/parameters.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace tandem {
namespace {

ModelConfig small() {
  ModelConfig c;
  c.vocab_size = 11;
  c.hidden_size = 8;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 6;
  c.max_positions = 5;
  c.experts = 3;
  c.top_k = 2;
  c.expert_hidden = 7;
  return c;
}

// Everything Mixtral lacks.
ModelConfig with_extras() {
  ModelConfig c = small();
  c.positions = PositionType::learned;
  c.norm = NormType::layer;
  c.attention_bias = true;
  c.tied_embeddings = true;
  c.gated_experts = false;
  c.shared_expert_hidden = 9;
  return c;
}

ModelConfig with_latent_attention() {
  ModelConfig c = small();
  c.kv_heads = 1;
  c.kv_latent = 10;
  c.query_latent = 9;
  c.unrotated_dim = c.rotary_dim = 4;
  c.head_dim = 8;
  c.value_dim = 5;
  return c;
}

std::vector<std::string> names(const ModelConfig& config) {
  std::vector<std::string> names;
  for (const Parameter& p : parameters(config)) names.push_back(p.name);
  return names;
}

const Parameter& named(const std::vector<Parameter>& all, const std::string& name) {
  for (const Parameter& p : all) {
    if (p.name == name) return p;
  }
  throw std::runtime_error("no parameter " + name);
}

TEST(Parameters, HaveMixtralsNames) {
  ModelConfig c = small();
  c.layers = 1;
  c.experts = 1;
  const std::vector<std::string> expected = {
      "model.embed_tokens.weight",
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.self_attn.k_proj.weight",
      "model.layers.0.self_attn.v_proj.weight",
      "model.layers.0.self_attn.o_proj.weight",
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.0.block_sparse_moe.gate.weight",
      "model.layers.0.block_sparse_moe.experts.0.w1.weight",
      "model.layers.0.block_sparse_moe.experts.0.w3.weight",
      "model.layers.0.block_sparse_moe.experts.0.w2.weight",
      "model.norm.weight",
      "lm_head.weight",
  };
  EXPECT_EQ(names(c), expected);
}

TEST(Parameters, HaveNamesForWhatMixtralLacks) {
  ModelConfig c = with_extras();
  c.layers = 1;
  c.experts = 1;
  const std::vector<std::string> expected = {
      "model.embed_tokens.weight",
      "model.embed_positions.weight",
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.input_layernorm.bias",
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.self_attn.q_proj.bias",
      "model.layers.0.self_attn.k_proj.weight",
      "model.layers.0.self_attn.k_proj.bias",
      "model.layers.0.self_attn.v_proj.weight",
      "model.layers.0.self_attn.v_proj.bias",
      "model.layers.0.self_attn.o_proj.weight",
      "model.layers.0.self_attn.o_proj.bias",
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.0.post_attention_layernorm.bias",
      "model.layers.0.block_sparse_moe.gate.weight",
      "model.layers.0.block_sparse_moe.experts.0.w1.weight",
      "model.layers.0.block_sparse_moe.experts.0.w2.weight",
      "model.layers.0.block_sparse_moe.shared_expert.up_proj.weight",
      "model.layers.0.block_sparse_moe.shared_expert.down_proj.weight",
      "model.norm.weight",
      "model.norm.bias",
  };
  EXPECT_EQ(names(c), expected);
  const std::vector<Parameter> all = parameters(c);
  EXPECT_EQ(named(all, "model.layers.0.block_sparse_moe.experts.0.w1.weight").id.kind,
            ParameterKind::expert_up);
}

TEST(Parameters, HaveTheirShapes) {
  const std::vector<Parameter> all = parameters(with_extras());
  using Shape = std::vector<int64_t>;
  const std::string layer = "model.layers.1.";
  EXPECT_EQ(named(all, "model.embed_tokens.weight").stored_shape(), (Shape{11, 8}));
  EXPECT_EQ(named(all, "model.embed_positions.weight").stored_shape(), (Shape{5, 8}));
  EXPECT_EQ(named(all, layer + "self_attn.q_proj.weight").stored_shape(), (Shape{24, 8}));
  EXPECT_EQ(named(all, layer + "self_attn.k_proj.weight").stored_shape(), (Shape{12, 8}));
  EXPECT_EQ(named(all, layer + "self_attn.v_proj.bias").stored_shape(), (Shape{12}));
  EXPECT_EQ(named(all, layer + "self_attn.o_proj.weight").stored_shape(), (Shape{8, 24}));
  EXPECT_EQ(named(all, layer + "self_attn.o_proj.bias").stored_shape(), (Shape{8}));
  EXPECT_EQ(named(all, layer + "block_sparse_moe.gate.weight").stored_shape(), (Shape{3, 8}));
  const Parameter& down = named(all, layer + "block_sparse_moe.experts.2.w2.weight");
  EXPECT_EQ(down.stored_shape(), (Shape{8, 7}));
  EXPECT_EQ(down.id, (ParameterId{ParameterKind::expert_down, 1, 2}));
}

TEST(Parameters, HaveDeepSeeksNamesAndShapes) {
  const std::vector<Parameter> all = parameters(with_latent_attention());
  using Shape = std::vector<int64_t>;
  const std::string layer = "model.layers.1.self_attn.";
  EXPECT_EQ(named(all, layer + "q_a_proj.weight").stored_shape(), (Shape{9, 8}));
  EXPECT_EQ(named(all, layer + "q_a_layernorm.weight").stored_shape(), (Shape{9}));
  EXPECT_EQ(named(all, layer + "q_b_proj.weight").stored_shape(), (Shape{32, 9}));
  EXPECT_EQ(named(all, layer + "kv_a_proj_with_mqa.weight").stored_shape(), (Shape{14, 8}));
  EXPECT_EQ(named(all, layer + "kv_a_layernorm.weight").stored_shape(), (Shape{10}));
  EXPECT_EQ(named(all, layer + "kv_b_proj.weight").stored_shape(), (Shape{36, 10}));
  EXPECT_EQ(named(all, layer + "o_proj.weight").stored_shape(), (Shape{8, 20}));
  ModelConfig without = with_latent_attention();
  without.query_latent = 0;
  EXPECT_EQ(named(parameters(without), layer + "q_proj.weight").stored_shape(), (Shape{32, 8}));
}

TEST(Parameters, ARouterOfOneExpertIsAMatrix) {
  ModelConfig c = small();
  c.experts = 1;
  const std::vector<Parameter> all = parameters(c);
  const Parameter& router = named(all, "model.layers.0.block_sparse_moe.gate.weight");
  EXPECT_FALSE(router.is_vector());
  EXPECT_EQ(router.stored_shape(), (std::vector<int64_t>{1, 8}));
  EXPECT_TRUE(named(all, "model.norm.weight").is_vector());
}

TEST(Parameters, AreDistinctAndCounted) {
  std::vector<ModelConfig> configs = {small(), with_extras()};
  configs.push_back(small());
  configs.back().shared_expert_hidden = 5;
  configs.push_back(with_latent_attention());
  configs.push_back(with_latent_attention());
  configs.back().query_latent = 0;
  for (const ModelConfig& config : configs) {
    std::set<std::string> distinct_names;
    std::set<ParameterId> distinct_ids;
    int64_t elements = 0;
    const std::vector<Parameter> all = parameters(config);
    for (const Parameter& p : all) {
      distinct_names.insert(p.name);
      distinct_ids.insert(p.id);
      elements += p.elements();
    }
    EXPECT_EQ(distinct_names.size(), all.size());
    EXPECT_EQ(distinct_ids.size(), all.size());
    EXPECT_EQ(elements, parameter_count(config));
  }
}

}  // namespace
}  // namespace tandem
