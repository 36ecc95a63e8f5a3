#include "tandem/plan/plan_file.h"

#include "tandem/base/error.h"
#include "tandem/base/yaml.h"

namespace tandem {

std::string_view exchange_name(Exchange exchange) {
  switch (exchange) {
    case Exchange::heads:
      return "heads";
    case Exchange::sums:
      return "sums";
    case Exchange::replicated:
      return "replicated";
  }
  TANDEM_CHECK(false, "exchange {}", static_cast<int>(exchange));
}

Exchange parse_exchange(std::string_view name, const std::string& where) {
  for (const Exchange exchange : {Exchange::heads, Exchange::sums, Exchange::replicated})
    if (name == exchange_name(exchange)) return exchange;
  throw InputError("{}: exchange '{}' is not heads, sums or replicated", where, name);
}

namespace {

// A rank alone stands for a replica that is not split.
void emit_placement(YAML::Emitter& out, const ExpertPlacement& placement) {
  out << YAML::BeginSeq;
  for (const auto& replicas : placement) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const ExpertReplica& replica : replicas) {
      if (replica.ranks.size() == 1)
        out << replica.ranks[0];
      else
        out << YAML::Flow << replica.ranks;
    }
    out << YAML::EndSeq;
  }
  out << YAML::EndSeq;
}

void emit_stage(YAML::Emitter& out, const Stage& stage) {
  const AttentionGrid& grid = stage.attention;
  out << YAML::BeginMap;
  out << YAML::Key << "layers" << YAML::Value << YAML::Flow << YAML::BeginSeq << stage.layers.begin
      << stage.layers.end << YAML::EndSeq;
  out << YAML::Key << "exchange" << YAML::Value << std::string(exchange_name(stage.exchange));
  out << YAML::Key << "attention" << YAML::Value << YAML::BeginMap;
  out << YAML::Key << "heads" << YAML::Value << YAML::Flow << grid.heads;
  out << YAML::Key << "batch_shards" << YAML::Value << grid.batch_shards;
  out << YAML::Key << "sequence_shards" << YAML::Value << grid.sequence_shards;
  out << YAML::Key << "ranks" << YAML::Value << YAML::Flow << grid.ranks;
  out << YAML::EndMap;
  if (stage.experts.size() == 1) {
    out << YAML::Key << "experts" << YAML::Value;
    emit_placement(out, stage.experts[0]);
  } else {
    out << YAML::Key << "experts_per_layer" << YAML::Value << YAML::BeginSeq;
    for (const ExpertPlacement& placement : stage.experts) emit_placement(out, placement);
    out << YAML::EndSeq;
  }
  out << YAML::EndMap;
}

ExpertPlacement parse_placement(const YAML::Node& node, const std::string& where) {
  if (!node.IsSequence()) throw InputError("{}: expected a list with one entry an expert", where);
  ExpertPlacement placement;
  for (size_t e = 0; e < node.size(); ++e) {
    const std::string expert = fmt::format("{}, expert {}", where, e);
    if (!node[e].IsSequence()) throw InputError("{}: expected a list of replicas", expert);
    auto& replicas = placement.emplace_back();
    for (const YAML::Node& replica : node[e])
      replicas.push_back({replica.IsSequence()
                              ? YamlMap::convert<std::vector<int>>(replica, expert)
                              : std::vector<int>{YamlMap::convert<int>(replica, expert)}});
  }
  return placement;
}

Stage parse_stage(const YAML::Node& node, const std::string& where) {
  const YamlMap reader(node, where,
                       {"layers", "exchange", "attention", "experts", "experts_per_layer"});
  Stage stage;
  const auto layers = reader.get<std::vector<int64_t>>("layers");
  if (layers.size() != 2) throw InputError("{}: expected [first, end]", reader.path("layers"));
  stage.layers = {layers[0], layers[1]};
  stage.exchange = parse_exchange(reader.get<std::string>("exchange", "heads"), where);
  const YamlMap attention(reader.field("attention"), reader.path("attention"),
                          {"heads", "batch_shards", "sequence_shards", "ranks"});
  stage.attention = {.heads = attention.get<std::vector<int>>("heads"),
                     .batch_shards = attention.get<int>("batch_shards", 1),
                     .sequence_shards = attention.get<int>("sequence_shards", 1),
                     .ranks = attention.get<std::vector<int>>("ranks")};
  if (reader.has("experts_per_layer")) {
    if (reader.has("experts"))
      throw InputError("{}: both 'experts' and 'experts_per_layer'", where);
    const YAML::Node by_layer = reader.field("experts_per_layer");
    const std::string path = reader.path("experts_per_layer");
    if (!by_layer.IsSequence())
      throw InputError("{}: expected a list with one placement a layer", path);
    for (size_t i = 0; i < by_layer.size(); ++i)
      stage.experts.push_back(parse_placement(
          by_layer[i], fmt::format("{}, layer {}", path, layers[0] + static_cast<int64_t>(i))));
  } else {
    stage.experts = {parse_placement(reader.field("experts"), reader.path("experts"))};
  }
  return stage;
}

}  // namespace

std::string plan_yaml(const Plan& plan) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  out << YAML::Key << "name" << YAML::Value << plan.name;
  out << YAML::Key << "copies" << YAML::Value << plan.copies;
  out << YAML::Key << "micro_batches" << YAML::Value << plan.micro_batches;
  if (plan.partial_batches) out << YAML::Key << "partial_batches" << YAML::Value << true;
  out << YAML::Key << "stages" << YAML::Value << YAML::BeginSeq;
  for (const Stage& stage : plan.stages) emit_stage(out, stage);
  out << YAML::EndSeq << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

Plan parse_plan(const std::string& yaml, const std::string& where) {
  const YamlMap reader(parse_yaml(yaml, where), where,
                       {"name", "copies", "micro_batches", "partial_batches", "stages"});
  Plan plan{.name = reader.get<std::string>("name", where),
            .copies = reader.get<int>("copies", 1),
            .micro_batches = reader.get<int>("micro_batches", 1),
            .partial_batches = reader.get<bool>("partial_batches", false)};
  const YAML::Node stages = reader.list("stages");
  for (size_t s = 0; s < stages.size(); ++s)
    plan.stages.push_back(parse_stage(stages[s], fmt::format("{}, stage {}", where, s)));
  return plan;
}

Plan read_plan(const std::filesystem::path& file) {
  return parse_plan(read_text(file), file.string());
}

}  // namespace tandem
