#include "tandem/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "model/config_files.h"
#include "model/refusal.h"
#include "model/temporary_directory.h"
#include "tandem/model/parameters.h"

namespace tandem {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// As transformers writes it for Mixtral-8x7B.
json mixtral() {
  return json::parse(R"({
    "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mixtral",
    "num_attention_heads": 32, "num_experts_per_tok": 2, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "num_local_experts": 8, "output_router_logits": false,
    "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "router_aux_loss_coef": 0.02,
    "sliding_window": null, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
    "transformers_version": "4.36.0.dev0", "use_cache": true, "vocab_size": 32000})");
}

json tandem_moe() {
  return json::parse(R"({
    "model_type": "tandem_moe", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 128, "num_experts": 8,
    "num_experts_per_tok": 2, "moe_intermediate_size": 96})");
}

TEST(Config, ReadsMixtral) {
  const ModelConfig c = parse(mixtral());
  EXPECT_EQ(c.model_type, "mixtral");
  EXPECT_EQ(c.vocab_size, 32000);
  EXPECT_EQ(c.layers, 32);
  EXPECT_EQ(c.heads, 32);
  EXPECT_EQ(c.kv_heads, 8);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.experts, 8);
  EXPECT_EQ(c.top_k, 2);
  EXPECT_EQ(c.expert_hidden, 14336);
  EXPECT_EQ(c.rope_theta, 1e6);
  EXPECT_EQ(c.norm, NormType::rms);
  EXPECT_EQ(c.norm_epsilon, 1e-5);
  EXPECT_EQ(c.balance_loss, 0.02);
  EXPECT_FALSE(c.balance_per_sequence);
  EXPECT_TRUE(c.normalize_top_k);
  EXPECT_TRUE(c.gated_experts);
  EXPECT_EQ(c.eos_token, 2);
  EXPECT_EQ(parameter_count(c), 46'702'792'704);  // as published
}

TEST(Config, WritesMixtralInTransformersNames) {
  const json out = json::parse(config_json(parse(mixtral())));
  const json in = mixtral();
  for (const char* field : {"architectures",        "attention_dropout",
                            "eos_token_id",         "hidden_act",
                            "hidden_size",          "initializer_range",
                            "intermediate_size",    "max_position_embeddings",
                            "model_type",           "num_attention_heads",
                            "num_experts_per_tok",  "num_hidden_layers",
                            "num_key_value_heads",  "num_local_experts",
                            "rms_norm_eps",         "rope_theta",
                            "router_aux_loss_coef", "sliding_window",
                            "tie_word_embeddings",  "vocab_size"}) {
    ASSERT_TRUE(out.contains(field)) << field;
    EXPECT_EQ(out[field], in[field]) << field;
  }
  EXPECT_FALSE(out.contains("norm_topk_prob"));
  EXPECT_FALSE(out.contains("expert_capacity"));
}

// A file of every family (tests/parity) reads as the same after it was written.
TEST(Config, FamiliesSurviveWriting) {
  for (const auto& entry : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/parity")) {
    if (!entry.is_directory()) continue;
    const ModelConfig read = read_config(entry.path() / "config.json");
    const ModelConfig again = parse_config(config_json(read), "written");
    EXPECT_TRUE(read == again) << entry.path() << "\n" << config_json(read);
  }
}

// transformers has no default for these.
TEST(Config, WritesAllThatLlama3sScalingNeeds) {
  const auto read = read_config(TANDEM_SOURCE_DIR "/tests/parity/llama/config.json");
  const auto written = json::parse(config_json(read)).at("rope_scaling");
  EXPECT_EQ(written.dump(), R"({"factor":4.0,"high_freq_factor":4.0,"low_freq_factor":1.0,)"
                            R"("original_max_position_embeddings":32,"rope_type":"llama3"})");
}

// The listing of the papers, with the vocabulary they leave out.
TEST(Config, ReadsThePapersSections) {
  const ModelConfig c = parse_config(R"({
    "model": {"num_layers": 4, "hidden_size": 4096, "num_attention_heads": 32,
      "attention_head_size": 128, "intermediate_size": 16384, "hidden_act": "gelu",
      "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
      "max_position_embeddings": 2048, "initializer_range": 0.02, "layer_norm_eps": 1e-12,
      "vocab_size": 50265},
    "moe": {"num_experts": 16, "expert_capacity": 2048, "top_k": 2, "aux_loss_alpha": 0.01,
      "seq_aux": true, "norm_topk_prob": false},
    "training": {"batch_size": 1024}})",
                                     "paper.json");
  EXPECT_EQ(c.model_type, "tandem_moe");
  EXPECT_EQ(c.layers, 4);
  EXPECT_EQ(c.kv_heads, 32);
  EXPECT_EQ(c.norm, NormType::layer);
  EXPECT_EQ(c.norm_epsilon, 1e-12);
  EXPECT_FALSE(c.gated_experts);
  EXPECT_FALSE(c.normalize_top_k);
  EXPECT_EQ(c.expert_capacity, 2048);
  EXPECT_EQ(c.hidden_dropout, 0.1);
  expect_round_trip(c);
}

TEST(Config, FillsInDefaults) {
  const ModelConfig c = parse(tandem_moe());
  EXPECT_EQ(c.kv_heads, 4);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.activation, ExpertActivation::silu);
  EXPECT_TRUE(c.gated_experts);
  EXPECT_EQ(c.eos_token, -1);
  json with_gelu = tandem_moe();
  with_gelu["hidden_act"] = "gelu_new";
  EXPECT_FALSE(parse(with_gelu).gated_experts);
  EXPECT_EQ(parse(with_gelu).activation, ExpertActivation::gelu_tanh);
  with_gelu["gated_experts"] = true;
  EXPECT_TRUE(parse(with_gelu).gated_experts);
}

TEST(Config, TakesWhatTransformersWritesToday) {
  json value = mixtral();
  value.erase("rope_theta");
  value["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  value["head_dim"] = nullptr;
  value["eos_token_id"] = {7, 8};
  value["sliding_window"] = 32768;
  const ModelConfig c = parse(value);
  EXPECT_EQ(c.rope_theta, 5e5);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.eos_token, 7);
}

TEST(Config, RoundTrips) {
  expect_round_trip(parse(mixtral()));
  expect_round_trip(parse(tandem_moe()));
  ModelConfig c = parse(tandem_moe());
  c.positions = PositionType::learned;
  c.norm = NormType::layer;
  c.norm_epsilon = 1e-12;
  c.attention_bias = c.tied_embeddings = true;
  c.kv_heads = 2;
  c.head_dim = 7;
  c.gated_experts = false;
  c.activation = ExpertActivation::gelu_tanh;
  c.normalize_top_k = false;
  c.shared_expert_hidden = 33;
  c.capacity_factor = 1.1;
  c.balance_per_sequence = false;
  c.balance_loss = 0.1 + 0.2;  // every bit comes back
  c.z_loss = 1.0 / 3;
  c.hidden_dropout = c.attention_dropout = c.expert_dropout = 0.1;
  c.rope_theta = 12345.678;
  c.eos_token = 511;
  expect_round_trip(c);
  ModelConfig m = parse(mixtral());
  m.z_loss = 0.001;
  m.expert_capacity = 64;
  m.balance_per_sequence = m.tied_embeddings = true;
  m.hidden_dropout = 0.1;
  m.eos_token = -1;
  m.activation = ExpertActivation::gelu;
  m.head_dim = 64;
  expect_round_trip(m);
}

// As DeepSeek writes it: as many K/V heads as heads, of which latent attention has none.
json latent() {
  json value = tandem_moe();
  value["num_key_value_heads"] = 4;
  value["kv_lora_rank"] = 24;
  value["q_lora_rank"] = 20;
  value["qk_nope_head_dim"] = 10;
  value["qk_rope_head_dim"] = 6;
  value["v_head_dim"] = 12;
  return value;
}

TEST(Config, ReadsLatentAttention) {
  const ModelConfig c = parse(latent());
  expect_round_trip(c);
  EXPECT_TRUE(c.latent_attention());
  EXPECT_EQ(c.kv_heads, 1);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.key_dim(), 30);
  EXPECT_EQ(c.attended_dim(), 24);
  EXPECT_EQ(c.output_dim(), 12);
  EXPECT_EQ(c.cache_width(1), 30);
  json without = latent();
  without["q_lora_rank"] = nullptr;
  EXPECT_EQ(parse(without).query_latent, 0);
}

TEST(Config, RefusesLatentAttentionThatCannotBe) {
  const auto refused = [](const char* field, const json& given) {
    json value = latent();
    value[field] = given;
    return refusal([&] { parse(value); });
  };
  EXPECT_THAT(refused("qk_rope_head_dim", 5), HasSubstr("qk_rope_head_dim must be even"));
  EXPECT_THAT(refused("qk_nope_head_dim", nullptr), HasSubstr("qk_nope_head_dim must be above 0"));
  EXPECT_THAT(refused("v_head_dim", 0), HasSubstr("v_head_dim must be above 0"));
  EXPECT_THAT(refused("attention_bias", true), HasSubstr("attention_bias must be false"));
  EXPECT_THAT(refused("position_embedding_type", "learned"), HasSubstr("must be \"rotary\""));
  EXPECT_THAT(refused("kv_lora_rank", nullptr), HasSubstr("given without kv_lora_rank"));
}

class TandemMistake : public testing::TestWithParam<Mistake> {};

TEST_P(TandemMistake, IsRefusedByName) {
  json value = tandem_moe();
  value[GetParam().field] = GetParam().value;
  EXPECT_THAT(refusal([&] { parse(value); }),
              AllOf(HasSubstr("config.json: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Config, TandemMistake,
    testing::Values(
        Mistake{"model_type", "gpt2", "model_type \"gpt2\" is not supported"},
        Mistake{"model_type", 3, "model_type must be a string, not 3"},
        Mistake{"model", 3, "model must be an object"},
        Mistake{"hidden_size", nullptr, "hidden_size is missing"},
        Mistake{"hidden_size", "64", "hidden_size must be an integer, not \"64\""},
        Mistake{"hidden_size", 64.5, "hidden_size must be an integer, not 64.5"},
        Mistake{"hidden_size", -64, "hidden_size must be from 1 to 1048576, not -64"},
        Mistake{"hidden_size", 0, "hidden_size must be from 1"},
        Mistake{"hidden_size", 1 << 21, "hidden_size must be from 1"},
        Mistake{"hidden_size", 18446744073709551615u, "hidden_size must be an integer"},
        Mistake{"hidden_size", 66, "num_attention_heads 4 does not divide hidden_size 66"},
        Mistake{"num_layers", 3, "num_hidden_layers and num_layers differ"},
        Mistake{"num_hidden_layers", 4097, "num_hidden_layers must be from 1 to 4096, not 4097"},
        Mistake{"num_experts", 65537, "num_experts must be from 1 to 65536, not 65537"},
        Mistake{"vocab_size", (1 << 26) + 1, "vocab_size must be from 1 to 67108864"},
        Mistake{"num_key_value_heads", 3, "num_key_value_heads 3 does not divide"},
        Mistake{"num_key_value_heads", 8, "num_key_value_heads 8 does not divide"},
        Mistake{"num_key_value_heads", 0, "num_key_value_heads must be from 1"},
        Mistake{"head_dim", 15, "head_dim must be even"},
        Mistake{"attention_head_size", -1, "attention_head_size must be from 1"},
        Mistake{"head_dim", 1 << 20, "num_attention_heads 4 times head_dim 1048576 is more"},
        Mistake{"num_experts_per_tok", 9, "num_experts_per_tok 9 is more than num_experts 8"},
        Mistake{"expert_capacity", -1, "expert_capacity must be from 0"},
        Mistake{"capacity_factor", -0.5, "capacity_factor must be at least 0"},
        Mistake{"hidden_dropout_prob", 1.0, "hidden_dropout_prob must be at least 0 and below 1"},
        Mistake{"hidden_dropout_prob", true, "hidden_dropout_prob must be a number, not true"},
        Mistake{"rms_norm_eps", 0, "rms_norm_eps must be at least"},
        Mistake{"layer_norm_eps", -1e-5, "layer_norm_eps must be at least"},
        Mistake{"norm_type", "batch", "norm_type must be one of rms"},
        Mistake{"rope_theta", 0, "rope_theta must be at least 1"},
        Mistake{"rope_scaling", {{"type", "dynamic"}}, "rope_scaling: type must be one of"},
        Mistake{"rope_scaling", {{"type", "yarn"}, {"factor", -1}}, "rope_scaling: factor must be"},
        Mistake{"sliding_window", 64, "sliding_window 64 is below max_position_embeddings 128"},
        Mistake{"hidden_act", "relu", "hidden_act must be one of silu"},
        Mistake{"hidden_act", "a\nb", "hidden_act must be one of"},
        Mistake{"position_embedding_type", "alibi", "position_embedding_type must be one of"},
        Mistake{"gated_experts", 1, "gated_experts must be true or false, not 1"},
        Mistake{"eos_token_id", 512, "eos_token_id must be from 0 to vocab_size - 1 = 511"},
        Mistake{"eos_token_id", -1, "eos_token_id must not be negative"},
        Mistake{"eos_token_id", "2", "eos_token_id must be an integer"},
        Mistake{"moe", {{"top_k", -3}}, "num_experts_per_tok and moe.top_k differ"}));

class MixtralMistake : public testing::TestWithParam<Mistake> {};

TEST_P(MixtralMistake, IsRefusedByName) {
  json value = mixtral();
  value[GetParam().field] = GetParam().value;
  EXPECT_THAT(refusal([&] { parse(value); }),
              AllOf(HasSubstr("config.json: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Config, MixtralMistake,
    testing::Values(
        Mistake{"sliding_window", 4096, "sliding_window 4096 is below"},
        Mistake{"num_local_experts", 0, "num_local_experts must be from 1"},
        Mistake{"num_local_experts", nullptr, "num_local_experts is missing"},
        Mistake{"num_local_experts", 1, "num_experts_per_tok 2 is more than num_local_experts 1"},
        Mistake{"router_aux_loss_coef", -1, "router_aux_loss_coef must be at least 0"},
        Mistake{"attention_dropout", 2, "attention_dropout must be at least 0"},
        Mistake{"norm_topk_prob", false, "norm_topk_prob must be true in a mixtral model"},
        Mistake{"attention_bias", true, "attention_bias must be false in a mixtral model"},
        Mistake{"gated_experts", false, "gated_experts must be true in a mixtral model"},
        Mistake{"layer_norm_eps", 1e-5, "norm_type must say which"},
        Mistake{"shared_expert_intermediate_size", 64, "shared_expert_intermediate_size must be 0"},
        Mistake{"position_embedding_type", "learned", "position_embedding_type must be"}));

TEST(Config, RefusesCombinations) {
  json both = tandem_moe();
  both["expert_capacity"] = 8;
  both["capacity_factor"] = 1.0;
  EXPECT_THAT(refusal([&] { parse(both); }),
              HasSubstr("expert_capacity 8 and capacity_factor 1 exclude each other"));
  json many = tandem_moe();
  many["num_hidden_layers"] = 4096;
  many["num_experts"] = 65536;
  EXPECT_THAT(refusal([&] { parse(many); }), HasSubstr("num_hidden_layers 4096 times"));
  json wide = tandem_moe();
  wide["hidden_size"] = wide["moe_intermediate_size"] = 1 << 20;
  wide["num_experts"] = 65536;
  EXPECT_THAT(refusal([&] { parse(wide); }), HasSubstr("parameters, more than"));
}

TEST(Config, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "[1]", "3", "{\"hidden_size\": NaN}", "{\"a\": 1e999}",
                           "{\"a\": \"\xff\"}", "model: yaml\nmoe: 3\n"}) {
    EXPECT_THAT(refusal([&] { parse_config(text, "some/config.json"); }),
                HasSubstr("some/config.json: "));
  }
  const std::string deep(1 << 20, '[');
  EXPECT_THAT(refusal([&] { parse_config(deep, "config.json"); }), HasSubstr("not valid JSON"));
}

TEST(Config, ValidateChecksWhatNoFileCouldSay) {
  ModelConfig c = parse(tandem_moe());
  c.z_loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal([&] { validate(c, "run.yaml"); }),
              HasSubstr("run.yaml: router_z_loss_coef must be at least 0"));
  c = parse(tandem_moe());
  c.norm_epsilon = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal([&] { validate(c, "run.yaml"); }), HasSubstr("rms_norm_eps"));
  c = parse(tandem_moe());
  c.kv_heads = 0;
  EXPECT_THAT(refusal([&] { validate(c, "run.yaml"); }), HasSubstr("num_key_value_heads"));
}

TEST(Config, FilesThatCannotBeRead) {
  const TemporaryDirectory directory;
  EXPECT_THAT(refusal([&] { read_config(directory / "config.json"); }),
              AllOf(HasSubstr("config.json"), HasSubstr("No such file")));
  EXPECT_THAT(refusal([&] { read_config(directory.path()); }), HasSubstr("is a directory"));
}

struct ShippedModel {
  const char* name;
  int64_t parameter_count;
};

TEST(Config, ShippedModelsHaveTheirSize) {
  const ShippedModel models[] = {
      {"ma-4096", 9'278'865'408},
      {"ma-4096-swiglu", 13'573'832'704},
      {"ma-1024", 556'877'824},
      {"ma-256", 35'410'432},
      {"ma-64", 2'364'544},
      {"shape-s", 904'545'280},
      {"shape-m", 6'919'096'320},
      {"demo", 26'300'672},
      {"deepseek-v3-like", 703'797'812'224},
  };
  for (const ShippedModel& model : models) {
    const std::filesystem::path file =
        std::filesystem::path(TANDEM_SOURCE_DIR) / "configs/models" / model.name / "config.json";
    const ModelConfig config = read_config(file);
    expect_round_trip(config);
    EXPECT_EQ(parameter_count(config), model.parameter_count) << model.name;
  }
}

}  // namespace
}  // namespace tandem
