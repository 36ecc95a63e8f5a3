#include "tandem/model/upcycle.h"

#include "tandem/base/error.h"
#include "tandem/model/family.h"

namespace tandem {
namespace {

std::string_view mixture_of(const ModelConfig& dense) {
  const std::string& type = dense.model_type;
  if (dense.attention_bias) return "tandem_moe";  // neither of the others has biases
  if (type == "llama" || type == "mistral") return "mixtral";
  if (type == "qwen3") return "qwen3_moe";
  return "tandem_moe";
}

}  // namespace

ModelConfig upcycled(const ModelConfig& dense, int64_t experts, int64_t top_k) {
  if (!family_of(dense.model_type).dense)
    throw InputError("--experts: a model of type {} is a mixture already", dense.model_type);
  if (experts < 2) throw InputError("--experts {}: a mixture has at least two", experts);
  ModelConfig config = dense;
  config.model_type = mixture_of(dense);
  config.experts = experts;
  config.top_k = top_k;
  config.normalize_top_k = true;
  config.balance_loss = default_config(family_of(config.model_type)).balance_loss;
  validate(config, "the mixture");
  return config;
}

std::optional<ParameterId> origin_of(const ParameterId& id) {
  if (id.kind == ParameterKind::router) return std::nullopt;
  ParameterId origin = id;
  if (id.expert >= 0) origin.expert = 0;
  return origin;
}

}  // namespace tandem
