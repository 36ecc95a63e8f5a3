#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "tandem/cli/commands.h"
#include "tandem/cli/model_options.h"
#include "tandem/cli/rank_summary.h"
#include "tandem/plan/plan_file.h"
#include "tandem/report/format.h"
#include "tandem/report/table.h"

namespace tandem::cli {
namespace {

struct InspectOptions {
  std::string model, plan, dtype, json_file;
  int64_t batch = 1;
  int64_t context_tokens = 0;  // 0: 4096, or what the model has
};

void print(const Table& table) { fmt::print("{}\n", table.text()); }

std::string bytes_text(int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

// ---- the model
// -----------------------------------------------------------------------------------

// Kinds of parameters as people speak of them.
const char* group_of(ParameterKind kind) {
  using enum ParameterKind;
  switch (kind) {
    case embedding:
    case position:
      return "embeddings";
    case head:
      return "output head";
    case query_latent:
    case latent_up:
    case query:
    case query_bias:
    case key:
    case key_bias:
    case value:
    case value_bias:
    case attention_output:
    case attention_output_bias:
      return "attention";
    case router:
    case router_bias:
      return "routers";
    case expert_gate:
    case expert_up:
    case expert_down:
      return "experts";
    case shared_gate:
    case shared_up:
    case shared_down:
    case shared_router:
      return "shared experts";
    default:
      return "norms";
  }
}

struct ParameterCounts {
  int64_t total = 0;
  int64_t active = 0;  // that a token is multiplied with; rows that it is looked up in do not count
  std::map<std::string, int64_t> by_group;
};

ParameterCounts count_parameters(const ModelConfig& model) {
  ParameterCounts counts;
  int64_t expert_elements = 0;
  for (const Parameter& p : parameters(model)) {
    const ParameterKind kind = p.id.kind;
    counts.total += p.elements();
    counts.by_group[group_of(kind)] += p.elements();
    const bool lookup = (kind == ParameterKind::embedding && !model.tied_embeddings) ||
                        kind == ParameterKind::position;
    if (p.id.expert >= 0)
      expert_elements += p.elements();
    else if (!lookup)
      counts.active += p.elements();
  }
  counts.active += expert_elements / model.experts * model.top_k;
  return counts;
}

std::string attention_text(const ModelConfig& m) {
  if (m.latent_attention())
    return fmt::format("{} heads of {} over latent rows of {} + {} rotated, positions up to {}",
                       m.heads, m.head_dim, m.kv_latent, m.rotary_dim, m.max_positions);
  return fmt::format("{} heads of {} over {} K/V heads, {} positions up to {}", m.heads, m.head_dim,
                     m.kv_heads, m.positions == PositionType::rotary ? "rotary" : "learned",
                     m.max_positions);
}

std::string experts_text(const ModelConfig& m) {
  std::string text =
      fmt::format("{} a layer, top-{}, {} hidden features, {}", m.experts, m.top_k, m.expert_hidden,
                  m.gated_experts ? "gated (three matrices)" : "two matrices");
  if (m.dense_layers > 0)
    text += fmt::format(", but none in the first {} (dense, {})", m.dense_layers, m.dense_hidden);
  if (m.expert_groups > 1)
    text += fmt::format("; from {} of {} groups", m.chosen_groups, m.expert_groups);
  if (m.shared_expert_hidden > 0) text += fmt::format("; shared: {}", m.shared_expert_hidden);
  if (m.expert_capacity > 0)
    text += fmt::format("; at most {} tokens of a sequence each", m.expert_capacity);
  if (m.capacity_factor > 0) text += fmt::format("; capacity factor {}", m.capacity_factor);
  return text;
}

void print_model(const ModelFiles& files, const ParameterCounts& counts) {
  const ModelConfig& m = files.config();
  Table facts({{"model", Align::left}, {files.directory().string(), Align::left}});
  facts.add_row({"family", m.model_type});
  facts.add_row({"layers", fmt::format("{} of hidden size {}", m.layers, m.hidden_size)});
  facts.add_row({"attention", attention_text(m)});
  facts.add_row({"experts", experts_text(m)});
  facts.add_row({"vocabulary",
                 fmt::format("{}{}", m.vocab_size, m.tied_embeddings ? ", tied embeddings" : "")});
  facts.add_row({"weights", files.has_weights() ? "there" : "none (a configuration alone)"});
  facts.add_row({"parameters", fmt::format("{}, {} active a token", format_count(counts.total),
                                           format_count(counts.active))});
  print(facts);

  Table kinds({{"kind", Align::left}, {"parameters"}, {"share"}, {"f32"}, {"bf16"}});
  const auto add = [&](const std::string& name, int64_t elements) {
    kinds.add_row({name, format_count(elements),
                   format_share(static_cast<double>(elements) / static_cast<double>(counts.total)),
                   bytes_text(4 * elements), bytes_text(2 * elements)});
  };
  for (const auto& [name, elements] : counts.by_group) add(name, elements);
  add("all", counts.total);
  print(kinds);
}

nlohmann::json model_json(const ModelFiles& files, const ParameterCounts& counts) {
  const ModelConfig& m = files.config();
  return {{"directory", files.directory().string()},
          {"family", m.model_type},
          {"has_weights", files.has_weights()},
          {"layers", m.layers},
          {"hidden_size", m.hidden_size},
          {"heads", m.heads},
          {"kv_heads", m.kv_heads},
          {"head_dim", m.head_dim},
          {"experts", m.experts},
          {"experts_per_token", m.top_k},
          {"expert_hidden_size", m.expert_hidden},
          {"vocabulary", m.vocab_size},
          {"max_positions", m.max_positions},
          {"parameters", counts.total},
          {"active_parameters", counts.active},
          {"parameters_by_kind", counts.by_group},
          {"bytes_f32", 4 * counts.total},
          {"bytes_bf16", 2 * counts.total}};
}

// ---- the plan
// ------------------------------------------------------------------------------------

std::string role_text(const Role& role) {
  return role.attention ? (role.expert ? "attention, expert" : "attention") : "expert";
}

// Columns that say nothing under this plan are left out.
void print_holdings(const Plan& plan, const std::vector<RankSummary>& ranks) {
  std::vector<Column> columns{{"rank"}, {"role", Align::left}};
  const bool copies = plan.copies > 1, stages = plan.stages.size() > 1;
  bool shards = false;
  for (const Stage& s : plan.stages)
    shards = shards || s.attention.batch_shards * s.attention.sequence_shards > 1;
  if (copies) columns.push_back({"copy"});
  if (stages) columns.push_back({"stage"});
  columns.insert(columns.end(), {{"layers"}, {"heads"}, {"K/V heads"}});
  if (shards) columns.insert(columns.end(), {{"batch shard"}, {"sequence shard"}});
  columns.insert(columns.end(), {{"experts"}, {"parameters"}});
  Table table(std::move(columns));
  for (const RankSummary& r : ranks) {
    std::vector<std::string> row{std::to_string(r.rank), role_text(r.role)};
    if (copies) row.push_back(std::to_string(r.role.copy));
    if (stages) row.push_back(std::to_string(r.role.stage));
    for (const Interval& range : {r.layers, r.heads, r.kv_heads}) row.push_back(range_text(range));
    if (shards) {
      row.push_back(r.role.attention ? std::to_string(r.role.place.batch) : "-");
      row.push_back(r.role.attention ? std::to_string(r.role.place.sequence) : "-");
    }
    row.push_back(r.experts);
    row.push_back(format_count(r.parameters));
    table.add_row(std::move(row));
  }
  print(table);
}

void print_memory(const std::vector<RankSummary>& ranks, const MemoryAssumptions& assumptions) {
  fmt::print(
      "Memory a rank, weights in {}; K/V for {} sequence{} of {} tokens in all. Activations come "
      "on top.\n",
      dtype_name(assumptions.dtype), assumptions.sequences, assumptions.sequences == 1 ? "" : "s",
      assumptions.context_tokens);
  Table table(
      {{"rank"}, {"weights"}, {"K/V"}, {"inference"}, {"gradients"}, {"optimizer"}, {"training"}});
  for (const RankSummary& r : ranks)
    table.add_row({std::to_string(r.rank), bytes_text(r.weight_bytes), bytes_text(r.kv_bytes),
                   bytes_text(r.weight_bytes + r.kv_bytes), bytes_text(r.gradient_bytes),
                   bytes_text(r.optimizer_bytes),
                   bytes_text(r.weight_bytes + r.gradient_bytes + r.optimizer_bytes)});
  print(table);
}

nlohmann::json plan_json(const Plan& plan, const std::vector<RankSummary>& ranks) {
  auto list = nlohmann::json::array();
  for (const RankSummary& r : ranks)
    list.push_back({{"rank", r.rank},
                    {"role", role_text(r.role)},
                    {"copy", r.role.copy},
                    {"stage", r.role.stage},
                    {"layers", {r.layers.begin, r.layers.end}},
                    {"heads", {r.heads.begin, r.heads.end}},
                    {"kv_heads", {r.kv_heads.begin, r.kv_heads.end}},
                    {"experts", r.experts},
                    {"parameters", r.parameters},
                    {"memory_bytes",
                     {{"parameters", r.weight_bytes},
                      {"kv_cache", r.kv_bytes},
                      {"gradients", r.gradient_bytes},
                      {"optimizer", r.optimizer_bytes}}}});
  return {{"name", plan.name},
          {"copies", plan.copies},
          {"stages", plan.stages.size()},
          {"micro_batches", plan.micro_batches},
          {"yaml", plan_yaml(plan)},
          {"ranks", std::move(list)}};
}

void run(const InspectOptions& o) {
  const ModelFiles files(o.model);
  const ModelConfig& model = files.config();
  const ParameterCounts counts = count_parameters(model);
  if (o.batch < 1) throw InputError("--batch {}: must be at least 1", o.batch);
  if (o.context_tokens < 0 || o.context_tokens > model.max_positions)
    throw InputError("--context {}: the model has {} positions", o.context_tokens,
                     model.max_positions);
  nlohmann::json json{{"model", model_json(files, counts)}};
  if (o.plan.empty()) {
    print_model(files, counts);
  } else {
    const Plan plan = make_plan(o.plan, model);
    const MemoryAssumptions assumptions{
        .dtype = o.dtype.empty() ? DType::bf16 : parse_dtype(o.dtype),
        .sequences = o.batch,
        .context_tokens =
            o.context_tokens > 0 ? o.context_tokens : std::min<int64_t>(4096, model.max_positions)};
    const std::vector<RankSummary> ranks = summarise(plan, model, assumptions);
    fmt::print("{} under {}: {} rank{}, exchange {}, {} micro-batch{} in flight\n\n", o.model,
               o.plan, plan.ranks(), plan.ranks() == 1 ? "" : "s",
               exchange_name(plan.stages.front().exchange), plan.micro_batches,
               plan.micro_batches == 1 ? "" : "es");
    print_holdings(plan, ranks);
    print_memory(ranks, assumptions);
    json["plan"] = plan_json(plan, ranks);
  }
  write_json(o.json_file, json);
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("inspect", "What a model is made of, or who holds what under a plan");
  const auto o = std::make_shared<InspectOptions>();
  command->add_option("--model", o->model, "Model directory; config.json is enough")->required();
  command->add_option("--plan", o->plan, "Shorthand or file: shows what each rank holds");
  command->add_option("--dtype", o->dtype, "Of weights and K/V: f32 or bf16 (default: bf16)");
  command->add_option("--batch", o->batch, "Sequences that K/V is kept for")->capture_default_str();
  command->add_option("--context", o->context_tokens,
                      "Tokens of each (default: 4096, or what the model has)");
  command->add_option("--json", o->json_file, "Write the same here (docs/json.md)");
  command->callback([o] { run(*o); });
}

}  // namespace tandem::cli
