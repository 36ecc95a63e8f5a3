#include "tandem/plan/layout.h"

#include <algorithm>
#include <map>
#include <set>

namespace tandem {

Interval kv_heads_of(const ModelConfig& model, const Interval& heads) {
  const int64_t share = model.heads / model.kv_heads;  // query heads to a K/V head
  return {heads.begin / share, (heads.end - 1) / share + 1};
}

namespace {

// Collects one rank's regions; what is not in the model (a bias, say) is skipped. Layers with
// experts have the same shapes, as have those without, and all experts of one: the last of the
// latter and the first of the former tell those of all.
class Collector {
 public:
  explicit Collector(ModelConfig model) : dense_layers_(model.dense_layers) {
    model.dense_layers = std::min<int64_t>(model.dense_layers, 1);
    model.layers = model.dense_layers + 1;
    for (const Parameter& p : parameters(model))
      shapes_[{p.id.kind, p.id.layer < model.dense_layers}] = {p.rows, p.cols};
  }

  void whole(ParameterKind kind, int64_t layer = -1) {
    add({kind, static_cast<int32_t>(layer)}, {0, max}, {0, max});
  }
  void rows(ParameterKind kind, int64_t layer, Interval rows, int expert = -1) {
    add({kind, static_cast<int32_t>(layer), expert}, rows, {0, max});
  }
  void cols(ParameterKind kind, int64_t layer, Interval cols, int expert = -1) {
    add({kind, static_cast<int32_t>(layer), expert}, {0, max}, cols);
  }
  std::vector<Region> take() {
    std::ranges::sort(regions_);
    regions_.erase(std::unique(regions_.begin(), regions_.end()), regions_.end());
    return std::move(regions_);
  }

 private:
  static constexpr int64_t max = int64_t{1} << 60;
  void add(const ParameterId& id, Interval rows, Interval cols) {
    const auto shape = shapes_.find({id.kind, id.layer < dense_layers_});
    if (shape == shapes_.end()) return;
    const auto [all_rows, all_cols] = shape->second;
    const Region region{id, overlap(rows, {0, all_rows}), overlap(cols, {0, all_cols})};
    if (region.elements() > 0) regions_.push_back(region);
  }

  int64_t dense_layers_;
  std::map<std::pair<ParameterKind, bool>, std::pair<int64_t, int64_t>> shapes_;  // by dense or not
  std::vector<Region> regions_;
};

using enum ParameterKind;

void collect_attention(Collector& out, const Stage& stage, const ModelConfig& model, int64_t layer,
                       const AttentionPlace& place) {
  const Interval heads = stage.attention.head_range(place.group);
  const Interval kv = kv_heads_of(model, heads);
  const auto features = [](const Interval& some, int64_t width) {
    return Interval{some.begin * width, some.end * width};
  };
  const Interval q_features = features(heads, model.head_dim);
  const Interval kv_features = features(kv, model.key_dim());
  for (const auto kind :
       {attention_norm, attention_norm_bias, attention_output_bias, expert_norm, expert_norm_bias,
        router, router_bias, shared_router, query_latent, query_latent_norm, latent_norm})
    out.whole(kind, layer);
  // A norm of single heads is all heads'.
  out.cols(query_norm, layer, model.whole_norm ? q_features : Interval{0, model.head_dim});
  out.cols(key_norm, layer, model.whole_norm ? kv_features : Interval{0, model.head_dim});
  out.rows(latent_up, layer, features(heads, model.unrotated_dim + model.value_dim));
  out.rows(query, layer, q_features);
  out.cols(query_bias, layer, q_features);
  for (const auto kind : {key, value}) out.rows(kind, layer, kv_features);
  for (const auto kind : {key_bias, value_bias}) out.cols(kind, layer, kv_features);
  if (stage.exchange == Exchange::heads)
    out.whole(attention_output, layer);
  else
    out.cols(attention_output, layer, features(heads, model.output_dim()));
  // Where every rank holds every token, the shared expert is divided instead.
  const Interval shared =
      stage.exchange == Exchange::replicated
          ? part(model.shared_hidden_of(layer), stage.attention.groups(), place.group)
          : Interval{0, model.shared_hidden_of(layer)};
  for (const auto kind : {shared_gate, shared_up}) out.rows(kind, layer, shared);
  out.cols(shared_down, layer, shared);
}

void collect_experts(Collector& out, const Stage& stage, const ModelConfig& model, int64_t layer,
                     int local_rank) {
  const ExpertPlacement& placement = stage.placement(layer);
  for (size_t e = 0; e < placement.size(); ++e)
    for (const ExpertReplica& replica : placement[e]) {
      const auto found = std::ranges::find(replica.ranks, local_rank);
      if (found == replica.ranks.end()) continue;
      const Interval features =
          part(model.expert_hidden, static_cast<int64_t>(replica.ranks.size()),
               found - replica.ranks.begin());
      const int expert = static_cast<int>(e);
      for (const auto kind : {expert_gate, expert_up}) out.rows(kind, layer, features, expert);
      out.cols(expert_down, layer, features, expert);
    }
}

}  // namespace

int64_t elements_of(const std::vector<Region>& regions) {
  int64_t elements = 0;
  for (const Region& region : regions) elements += region.elements();
  return elements;
}

std::vector<Region> holdings(const Plan& plan, const ModelConfig& model, int rank) {
  const Role role = role_of(plan, rank);
  const Stage& stage = plan.stages[role.stage];
  Collector out(model);
  const bool first = role.stage == 0;
  const bool last = role.stage + 1 == static_cast<int>(plan.stages.size());
  if (role.attention) {
    const Interval vocabulary = part(
        model.vocab_size, static_cast<int64_t>(stage.attention.ranks.size()), role.place.index);
    if (first || (last && model.tied_embeddings)) out.rows(embedding, -1, vocabulary);
    if (first) out.whole(position);
    if (last) {
      out.rows(head, -1, vocabulary);
      out.whole(final_norm);
      out.whole(final_norm_bias);
    }
  }
  for (int64_t layer = stage.layers.begin; layer < stage.layers.end; ++layer) {
    if (role.attention) collect_attention(out, stage, model, layer, role.place);
    if (role.expert) collect_experts(out, stage, model, layer, role.local_rank);
  }
  return out.take();
}

std::vector<Shard> cut(const std::vector<std::vector<Region>>& held) {
  std::map<ParameterId, std::vector<std::pair<Region, int>>> by_parameter;
  for (int holder = 0; holder < std::ssize(held); ++holder)
    for (const Region& region : held[holder]) by_parameter[region.id].emplace_back(region, holder);
  std::vector<Shard> result;
  for (const auto& [id, regions] : by_parameter) {
    std::set<int64_t> row_borders, col_borders;
    for (const auto& [region, holder] : regions) {
      row_borders.insert({region.rows.begin, region.rows.end});
      col_borders.insert({region.cols.begin, region.cols.end});
    }
    for (auto row = row_borders.begin(); std::next(row) != row_borders.end(); ++row)
      for (auto col = col_borders.begin(); std::next(col) != col_borders.end(); ++col) {
        Shard shard{{id, {*row, *std::next(row)}, {*col, *std::next(col)}}, {}};
        for (const auto& [region, holder] : regions)
          if (region.contains(shard.region)) shard.holders.push_back(holder);
        if (!shard.holders.empty()) result.push_back(std::move(shard));
      }
  }
  return result;
}

std::vector<std::vector<Region>> all_holdings(const Plan& plan, const ModelConfig& model) {
  std::vector<std::vector<Region>> held;
  for (int rank = 0; rank < plan.ranks(); ++rank) held.push_back(holdings(plan, model, rank));
  return held;
}

std::vector<Shard> shards(const Plan& plan, const ModelConfig& model) {
  return cut(all_holdings(plan, model));
}

Region shard_piece(const Shard& shard, int index) {
  const auto holders = static_cast<int64_t>(shard.holders.size());
  Region piece = shard.region;
  if (piece.rows.size() >= holders)
    piece.rows = part(piece.rows, holders, index);
  else
    piece.cols = part(piece.cols, holders, index);
  return piece;
}

}  // namespace tandem
