#include "tandem/model/parameters.h"

#include <algorithm>
#include <utility>

#include "tandem/base/error.h"
#include "tandem/model/family.h"

namespace tandem {

namespace {

using Kind = ParameterKind;

// Collects the inventory of one model. Names are those of its family in transformers, with names
// of ours for what that lacks.
class Inventory {
 public:
  explicit Inventory(const ModelConfig& config)
      : config_(config), family_(family_of(config.model_type)) {}

  std::vector<Parameter> collect() {
    const int64_t hidden = config_.hidden_size;
    add({Kind::embedding}, "model.embed_tokens.weight", config_.vocab_size, hidden);
    if (config_.positions == PositionType::learned) {
      add({Kind::position}, "model.embed_positions.weight", config_.max_positions, hidden);
    }
    for (int32_t layer = 0; layer < config_.layers; ++layer) add_layer(layer);
    add_norm(Kind::final_norm, Kind::final_norm_bias, -1, "model.norm");
    if (!config_.tied_embeddings) {
      add({Kind::head}, "lm_head.weight", config_.vocab_size, hidden);
    }
    return std::move(parameters_);
  }

 private:
  void add(const ParameterId& id, std::string name, int64_t rows, int64_t cols) {
    parameters_.push_back({id, std::move(name), rows, cols});
  }

  void add_norm(Kind weight, Kind bias, int32_t layer, const std::string& name) {
    add({weight, layer}, name + ".weight", 1, config_.hidden_size);
    if (config_.norm == NormType::layer) {
      add({bias, layer}, name + ".bias", 1, config_.hidden_size);
    }
  }

  void add_projection(Kind weight, Kind bias, int32_t layer, const std::string& name, int64_t rows,
                      int64_t cols, bool biased) {
    add({weight, layer}, name + ".weight", rows, cols);
    if (biased) add({bias, layer}, name + ".bias", 1, rows);
  }

  void add_layer(int32_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const std::string attention = prefix + "self_attn.";
    const int64_t hidden = config_.hidden_size;
    add_norm(Kind::attention_norm, Kind::attention_norm_bias, layer, prefix + "input_layernorm");
    if (config_.latent_attention()) {
      add_latent_attention(layer, attention);
    } else {
      const int64_t query_rows = config_.heads * config_.head_dim;
      const int64_t kv_rows = config_.kv_heads * config_.head_dim;
      const bool biased = config_.biased_projections();
      add_projection(Kind::query, Kind::query_bias, layer, attention + "q_proj", query_rows, hidden,
                     biased);
      add_projection(Kind::key, Kind::key_bias, layer, attention + "k_proj", kv_rows, hidden,
                     biased);
      add_projection(Kind::value, Kind::value_bias, layer, attention + "v_proj", kv_rows, hidden,
                     biased);
    }
    if (config_.head_norm) {
      add({Kind::query_norm, layer}, attention + "q_norm.weight", 1, config_.head_dim);
      add({Kind::key_norm, layer}, attention + "k_norm.weight", 1, config_.head_dim);
    } else if (config_.whole_norm) {
      add({Kind::query_norm, layer}, attention + "q_norm.weight", 1,
          config_.heads * config_.head_dim);
      add({Kind::key_norm, layer}, attention + "k_norm.weight", 1,
          config_.kv_heads * config_.head_dim);
    }
    add_projection(Kind::attention_output, Kind::attention_output_bias, layer, attention + "o_proj",
                   hidden, config_.heads * config_.output_dim(), config_.attention_bias);
    add_norm(Kind::expert_norm, Kind::expert_norm_bias, layer, prefix + "post_attention_layernorm");
    const std::string mixture = fmt::format("{}{}", prefix, family_.mixture);
    if (config_.has_experts(layer)) add_experts(layer, mixture);
    add_shared(layer, config_.has_experts(layer) ? mixture + std::string(family_.shared) : mixture);
    if (config_.gates_shared_expert(layer))
      add({Kind::shared_router, layer}, mixture + "shared_expert_gate.weight", 1, hidden);
  }

  // Names as in DeepSeek-V2 and V3.
  void add_latent_attention(int32_t layer, const std::string& prefix) {
    const int64_t hidden = config_.hidden_size, latent = config_.kv_latent;
    const int64_t query_rows = config_.heads * config_.head_dim;
    if (config_.query_latent > 0) {
      add({Kind::query_latent, layer}, prefix + "q_a_proj.weight", config_.query_latent, hidden);
      add({Kind::query_latent_norm, layer}, prefix + "q_a_layernorm.weight", 1,
          config_.query_latent);
      add({Kind::query, layer}, prefix + "q_b_proj.weight", query_rows, config_.query_latent);
    } else {
      add({Kind::query, layer}, prefix + "q_proj.weight", query_rows, hidden);
    }
    add({Kind::key, layer}, prefix + "kv_a_proj_with_mqa.weight", config_.key_dim(), hidden);
    add({Kind::latent_norm, layer}, prefix + "kv_a_layernorm.weight", 1, latent);
    add({Kind::latent_up, layer}, prefix + "kv_b_proj.weight",
        config_.heads * (config_.unrotated_dim + config_.value_dim), latent);
  }

  void add_experts(int32_t layer, const std::string& prefix) {
    const int64_t hidden = config_.hidden_size;
    const int64_t inner = config_.expert_hidden;
    add({Kind::router, layer}, family_.dense ? "" : prefix + "gate.weight", config_.experts,
        hidden);
    if (config_.router_bias)  // as DeepSeek-V3 calls it
      add({Kind::router_bias, layer}, prefix + "gate.e_score_correction_bias", 1, config_.experts);
    // Where there is no gate, its name is that of the matrix beside it.
    const std::string_view up_name = config_.gated_experts ? family_.up : family_.gate;
    for (int32_t e = 0; e < config_.experts; ++e) {
      const std::string expert = family_.dense ? prefix : fmt::format("{}experts.{}.", prefix, e);
      const auto name = [&](std::string_view matrix) {
        return fmt::format("{}{}.weight", expert, matrix);
      };
      if (config_.gated_experts)
        add({Kind::expert_gate, layer, e}, name(family_.gate), inner, hidden);
      add({Kind::expert_up, layer, e}, name(up_name), inner, hidden);
      add({Kind::expert_down, layer, e}, name(family_.down), hidden, inner);
    }
  }

  void add_shared(int32_t layer, const std::string& prefix) {
    const int64_t hidden = config_.hidden_size, inner = config_.shared_hidden_of(layer);
    if (inner == 0) return;
    if (config_.gated_experts)
      add({Kind::shared_gate, layer}, prefix + "gate_proj.weight", inner, hidden);
    add({Kind::shared_up, layer}, prefix + "up_proj.weight", inner, hidden);
    add({Kind::shared_down, layer}, prefix + "down_proj.weight", hidden, inner);
  }

  const ModelConfig& config_;
  const Family& family_;
  std::vector<Parameter> parameters_;
};

}  // namespace

bool Parameter::is_vector() const {
  switch (id.kind) {
    case Kind::attention_norm:
    case Kind::attention_norm_bias:
    case Kind::query_latent_norm:
    case Kind::latent_norm:
    case Kind::query_bias:
    case Kind::key_bias:
    case Kind::value_bias:
    case Kind::query_norm:
    case Kind::key_norm:
    case Kind::attention_output_bias:
    case Kind::expert_norm:
    case Kind::expert_norm_bias:
    case Kind::router_bias:
    case Kind::final_norm:
    case Kind::final_norm_bias:
      return true;
    default:
      return false;  // a matrix, be it of one row: the router of a single expert
  }
}

std::vector<int64_t> Parameter::stored_shape() const {
  return is_vector() ? std::vector<int64_t>{cols} : std::vector<int64_t>{rows, cols};
}

std::vector<Parameter> parameters(const ModelConfig& config) { return Inventory(config).collect(); }

// In double, which is exact up to 2^53, beyond the 2^50 of the largest valid configuration, and
// does not overflow for the others.
int64_t parameter_count(const ModelConfig& c) {
  const double hidden = static_cast<double>(c.hidden_size);
  const double query_rows = static_cast<double>(c.heads) * static_cast<double>(c.head_dim);
  const double kv_rows = static_cast<double>(c.kv_heads) * static_cast<double>(c.head_dim);
  const double vocabulary = hidden * static_cast<double>(c.vocab_size);
  const double norm = c.norm == NormType::layer ? 2 * hidden : hidden;

  double layer = 2 * norm + hidden * static_cast<double>(c.heads * c.output_dim());
  if (c.latent_attention()) {
    const double latent = static_cast<double>(c.kv_latent);
    const double query_latent = static_cast<double>(c.query_latent);
    layer += query_latent > 0 ? query_latent * (hidden + 1 + query_rows) : hidden * query_rows;
    layer += hidden * static_cast<double>(c.key_dim()) + latent;
    layer += latent * static_cast<double>(c.heads * (c.unrotated_dim + c.value_dim));
  } else {
    layer += hidden * (query_rows + 2 * kv_rows);
    if (c.biased_projections()) layer += query_rows + 2 * kv_rows;
    if (c.attention_bias) layer += hidden;
    if (c.head_norm) layer += 2 * static_cast<double>(c.head_dim);
    if (c.whole_norm) layer += query_rows + kv_rows;
  }
  const double matrices = (c.gated_experts ? 3 : 2) * hidden;
  double experts = (hidden + (c.router_bias ? 1 : 0)) * static_cast<double>(c.experts);
  experts += matrices * static_cast<double>(c.experts) * static_cast<double>(c.expert_hidden);
  experts += matrices * static_cast<double>(c.shared_expert_hidden);
  if (c.shared_expert_hidden > 0 && c.gated_shared_expert) experts += hidden;

  double total = vocabulary + static_cast<double>(c.layers) * layer + norm;
  total += static_cast<double>(c.expert_layers()) * experts;
  total += static_cast<double>(c.dense_layers) * matrices * static_cast<double>(c.dense_hidden);
  if (!c.tied_embeddings) total += vocabulary;
  if (c.positions == PositionType::learned) total += hidden * static_cast<double>(c.max_positions);
  constexpr double largest = 0x1p62;
  return static_cast<int64_t>(std::min(total, largest));
}

}  // namespace tandem
