#include "tandem/model/config.h"

#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "tandem/base/error.h"
#include "tandem/model/config_fields.h"
#include "tandem/model/json_text.h"

namespace tandem {

namespace {

using Json = nlohmann::json;

// The file as a flat list of fields: those of a nested "model" or "moe" stand beside the others.
class Fields {
 public:
  Fields(const Json& file, std::string where) : where_(std::move(where)) {
    if (!file.is_object()) throw InputError("{}: must be a JSON object", where_);
    add(file, "");
  }

  bool has(std::string_view name) const { return fields_.contains(name); }

  // Each of these leaves `value` alone and returns null where no name is in the file; otherwise
  // the name as the user wrote it: "moe.top_k".
  const std::string* read(const FieldNames& names, int64_t& value) const {
    return read_all<int64_t>(names, value, [this](const Field& f) { return integer(f); });
  }
  const std::string* read(const FieldNames& names, double& value) const {
    return read_all<double>(names, value, [this](const Field& f) {
      if (!f.value.is_number()) refuse(f, "a number");
      return f.value.get<double>();
    });
  }
  const std::string* read(const FieldNames& names, bool& value) const {
    return read_all<bool>(names, value, [this](const Field& f) {
      if (!f.value.is_boolean()) refuse(f, "true or false");
      return f.value.get<bool>();
    });
  }
  const std::string* read(const FieldNames& names, std::string& value) const {
    return read_all<std::string>(names, value, [this](const Field& f) {
      if (!f.value.is_string()) refuse(f, "a string");
      return f.value.get<std::string>();
    });
  }
  const Json* find(std::string_view name) const {
    const auto it = fields_.find(name);
    return it == fields_.end() ? nullptr : &it->second.value;
  }

 private:
  struct Field {
    std::string path;
    Json value;
  };

  void add(const Json& object, const std::string& prefix) {
    for (const auto& [name, value] : object.items()) {
      const bool section = prefix.empty() && (name == "model" || name == "moe");
      if (section && value.is_object()) {
        add(value, name + ".");
      } else if (section) {
        throw InputError("{}: {} must be an object", where_, name);
      } else if (!value.is_null()) {  // null is how transformers writes "not given"
        const auto [it, fresh] = fields_.try_emplace(name, Field{prefix + name, value});
        if (!fresh && it->second.value != value) {
          throw InputError("{}: {} and {} differ", where_, printable(it->second.path),
                           printable(prefix + name));
        }
      }
    }
  }

  template <class T, class Convert>
  const std::string* read_all(const FieldNames& names, T& value, Convert convert) const {
    const Field* first = nullptr;
    for (const std::string_view name : names.accepted) {
      const auto it = fields_.find(name);
      if (name.empty() || it == fields_.end()) continue;
      const T converted = convert(it->second);
      if (first && converted != value) {
        throw InputError("{}: {} and {} differ", where_, first->path, it->second.path);
      }
      value = converted;
      first = &it->second;
    }
    return first ? &first->path : nullptr;
  }

  int64_t integer(const Field& field) const {
    const Json& value = field.value;
    const bool fits = value.is_number_unsigned() ? value.get<uint64_t>() <= uint64_t{INT64_MAX}
                                                 : value.is_number_integer();
    if (!fits) refuse(field, "an integer");
    return value.get<int64_t>();
  }

  [[noreturn]] void refuse(const Field& field, std::string_view expected) const {
    throw InputError("{}: {} must be {}, not {}", where_, field.path, expected,
                     printable(field.value.dump(-1, ' ', true, Json::error_handler_t::replace)));
  }

  std::string where_;
  std::map<std::string, Field, std::less<>> fields_;
};

template <class T>
struct Choice {
  std::string_view name;
  T value;
};

template <class T>
bool read_choice(const Fields& fields, const FieldNames& names, std::span<const Choice<T>> choices,
                 const std::string& where, T& value) {
  std::string text;
  const std::string* path = fields.read(names, text);
  if (!path) return false;
  std::string known;
  for (const Choice<T>& choice : choices) {
    if (choice.name == text) {
      value = choice.value;
      return true;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", choice.name);
  }
  throw InputError("{}: {} must be one of {}, not \"{}\"", where, *path, known, printable(text));
}

constexpr Choice<ExpertActivation> activations[] = {
    {"silu", ExpertActivation::silu},           {"swish", ExpertActivation::silu},
    {"gelu", ExpertActivation::gelu},           {"gelu_new", ExpertActivation::gelu_tanh},
    {"gelu_tanh", ExpertActivation::gelu_tanh}, {"gelu_pytorch_tanh", ExpertActivation::gelu_tanh},
};
constexpr Choice<NormType> norms[] = {
    {"rms", NormType::rms},
    {"rms_norm", NormType::rms},
    {"layer", NormType::layer},
    {"layer_norm", NormType::layer},
};
constexpr Choice<RouterScore> router_scores[] = {
    {"softmax", RouterScore::softmax},
    {"sigmoid", RouterScore::sigmoid},
};
constexpr Choice<PositionType> position_types[] = {
    {"rotary", PositionType::rotary},
    {"learned", PositionType::learned},
    {"absolute", PositionType::learned},
};

// The epsilon's name says which norm it is, unless norm_type does.
void read_norm(const Fields& fields, const std::string& where, ModelConfig& config) {
  double rms = config.norm_epsilon;
  double layer = config.norm_epsilon;
  const std::string* rms_path = fields.read(rms_epsilon, rms);
  const std::string* layer_path = fields.read(layer_epsilon, layer);
  config.norm = layer_path ? NormType::layer : NormType::rms;
  const bool told = read_choice<NormType>(fields, {{"norm_type"}}, norms, where, config.norm);
  if (rms_path && layer_path && !told) {
    throw InputError("{}: has both {} and {}: norm_type must say which", where, *rms_path,
                     *layer_path);
  }
  if (!layer_path) layer = rms;
  if (!rms_path) rms = layer;
  config.norm_epsilon = config.norm == NormType::layer ? layer : rms;
}

constexpr Choice<RopeScaling::Kind> rope_scalings[] = {
    {"default", RopeScaling::Kind::none},
    {"linear", RopeScaling::Kind::linear},
    {"llama3", RopeScaling::Kind::llama3},
    {"yarn", RopeScaling::Kind::yarn},
};

void read_rope(const Fields& fields, const std::string& where, ModelConfig& config) {
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = fields.find(name);
    if (!rope) continue;
    if (!rope->is_object()) throw InputError("{}: {} must be an object", where, name);
    const std::string inside = fmt::format("{}: {}", where, name);
    const Fields inner(*rope, inside);
    RopeScaling& s = config.rope_scaling;
    read_choice<RopeScaling::Kind>(inner, {{"rope_type", "type"}}, rope_scalings, inside, s.kind);
    if (!fields.has("rope_theta")) inner.read({{"rope_theta"}}, config.rope_theta);
    for (const RopeField& field : rope_fields) inner.read(field.names, s.*field.value);
    if (s.kind != RopeScaling::Kind::none && s.original_positions == 0)
      s.original_positions = static_cast<double>(config.max_positions);
  }
}

// What a file may ask for that no part of the system computes must not be passed over.
void refuse_unsupported(const Fields& fields, const std::string& where, const ModelConfig& config) {
  int64_t window = config.max_positions;
  bool uses_window = true;
  fields.read({{"use_sliding_window"}}, uses_window);
  if (uses_window) fields.read({{"sliding_window"}}, window);
  if (window < config.max_positions) {
    throw InputError(
        "{}: sliding_window {} is below max_position_embeddings {}; windows are not "
        "supported",
        where, window, config.max_positions);
  }
  int64_t sparse_step = 1;
  bool biased = false;
  fields.read({{"decoder_sparse_step"}}, sparse_step);
  fields.read({{"mlp_bias"}}, biased);
  const Json* dense_layers = fields.find("mlp_only_layers");
  if (sparse_step != 1 || (dense_layers && !dense_layers->empty()))
    throw InputError(
        "{}: layers without experts (decoder_sparse_step, mlp_only_layers) are not "
        "supported",
        where);
  if (biased) throw InputError("{}: mlp_bias true is not supported", where);
  int64_t sparse = 1;
  fields.read({{"moe_layer_freq"}}, sparse);
  if (sparse != 1) throw InputError("{}: moe_layer_freq {} is not supported", where, sparse);
  const Json* quantisation = fields.find("quantization_config");
  if (!quantisation) return;
  const Json known = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {128, 128}}};
  for (const auto& [name, value] : known.items())
    if (!quantisation->is_object() || quantisation->value(name, value) != value)
      throw InputError("{}: quantization_config: {} must be {}", where, name, value.dump());
}

// How DeepSeek's routers choose. V2's may pass over its groups; V3's has one way.
void read_routing(const Fields& fields, const std::string& where, ModelConfig& config) {
  read_choice<RouterScore>(fields, {{"scoring_func"}}, router_scores, where, config.router_score);
  if (!family_of(config.model_type).latent) return;
  constexpr Choice<int> v2[] = {{"greedy", 0}, {"group_limited_greedy", 1}};
  constexpr Choice<int> v3[] = {{"noaux_tc", 1}};
  const bool second = config.model_type == "deepseek_v2";
  int grouped = second ? 0 : 1;
  read_choice<int>(fields, {{"topk_method"}},
                   second ? std::span<const Choice<int>>(v2) : std::span<const Choice<int>>(v3),
                   where, grouped);
  if (grouped == 0) config.expert_groups = config.chosen_groups = 1;
}

// Several ends of text are more than generation looks for: the first counts.
void read_eos(const Fields& fields, const std::string& where, ModelConfig& config) {
  const Json* eos = fields.find("eos_token_id");
  if (!eos) return;
  const Json& first = eos->is_array() && !eos->empty() ? eos->front() : *eos;
  const Fields alone(Json::object({{"eos_token_id", first}}), where);
  const std::string* path = alone.read({{"eos_token_id"}}, config.eos_token);
  if (path && config.eos_token < 0) {
    throw InputError("{}: {} must not be negative, but is {}", where, *path, config.eos_token);
  }
}

void read_sizes(const Fields& fields, const std::string& where, ModelConfig& config) {
  const Family& family = family_of(config.model_type);
  for (const IntegerField& field : integer_fields) {
    // A family's own name for it stands alone: others may mean something else there.
    const std::string_view own = family.ours() ? "" : family.name_of(field.names);
    const std::string* path =
        fields.read(own.empty() ? field.names : FieldNames{{own}}, config.*field.value);
    if (path) {
      field.check(config, where, *path);
    } else if (field.presence == Presence::required && config.*field.value == 0) {
      throw InputError("{}: {} is missing", where, field.names.in(config.model_type));
    }
  }
  // Such files give the shared expert's width in experts, and something else as head_dim.
  if (family.latent) config.shared_expert_hidden *= config.expert_hidden;
  if (config.latent_attention()) {
    config.kv_heads = 1;
    config.head_dim = config.unrotated_dim + config.rotary_dim;
  }
  if (config.kv_heads == 0) config.kv_heads = config.heads;
  if (config.head_dim == 0) {
    if (config.hidden_size % config.heads != 0) {
      throw InputError(
          "{}: num_attention_heads {} does not divide hidden_size {}, and there is no "
          "head_dim",
          where, config.heads, config.hidden_size);
    }
    config.head_dim = config.hidden_size / config.heads;
  }
}

void read_reals_and_flags(const Fields& fields, const std::string& where, ModelConfig& config) {
  for (const RealField& field : real_fields) {
    const std::string* path = fields.read(field.names, config.*field.value);
    if (path) field.check(config, where, *path);
  }
  const bool ours = family_of(config.model_type).ours();
  config.gated_experts = !ours || config.activation == ExpertActivation::silu;
  for (const FlagField& field : flag_fields) fields.read(field.names, config.*field.value);
  read_routing(fields, where, config);
}

}  // namespace

ModelConfig parse_config(const std::string& json, const std::string& where) {
  const Fields fields(parse_json(json, where), where);
  std::string model_type = "tandem_moe";
  fields.read({{"model_type"}}, model_type);
  ModelConfig config = default_config(family_of(model_type, where));
  read_sizes(fields, where, config);
  read_choice<ExpertActivation>(fields, {{"hidden_act"}}, activations, where, config.activation);
  read_choice<PositionType>(fields, {{"position_embedding_type"}}, position_types, where,
                            config.positions);
  read_norm(fields, where, config);
  read_reals_and_flags(fields, where, config);
  read_eos(fields, where, config);
  read_rope(fields, where, config);
  refuse_unsupported(fields, where, config);
  validate(config, where);
  return config;
}

ModelConfig read_config(const std::filesystem::path& file) {
  return parse_config(read_text(file, largest_config_bytes), file.string());
}

}  // namespace tandem
