#include "tandem/runtime/projection.h"

#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Squares are exchanged for every query head of the model: in this form their sum does not depend
// on how heads are divided, and a K/V head that several ranks have counts as often as it is used.
Task<> whole_norm(Rank& rank, Track& on, Projection p, Tensor x, Tensor y) {
  const AttentionGrid& grid = rank.stage().attention;
  const Tensor mine = on.allocate(std::ssize(p.heads), x.rows, DType::f32);
  on.run(HeadSquares{.x = x, .out = mine, .heads = p.heads, .head_dim = rank.model.head_dim});
  Array<Interval> heads(&rank.frames());
  for (int group = 0; group < grid.groups(); ++group) heads.push_back(grid.head_range(group));
  const Tag tag = tag_of(on, MessageKind::attention, p.phase);
  const Tensor squares =
      co_await gather_rows(rank.endpoint, on, rank.head_group(), tag, heads, mine);
  on.run(SplitNorm{.x = x,
                   .weight = p.norm,
                   .squares = squares,
                   .y = y,
                   .scale = p.kept.statistics,
                   .head_dim = rank.model.head_dim,
                   .epsilon = static_cast<float>(rank.model.norm_epsilon)});
}

// What goes through the mean comes from all head groups. To a K/V head that several of them have it
// goes in shares: as many of its query heads as a group has.
Task<> whole_norm_backward(Rank& rank, Track& on, Projection p, Tensor d, Tensor dx, Tensor dnorm) {
  const Tensor mine = on.allocate(1, d.rows, DType::f32);
  on.run(SplitNormProduct{
      .x = p.kept.before, .weight = p.norm, .scale = p.kept.statistics, .dy = d, .out = mine});
  Array<Interval> groups(&rank.frames());
  for (int64_t group = 0; group < rank.stage().attention.groups(); ++group)
    groups.push_back({group, group + 1});
  const Tag tag = tag_of(on, MessageKind::attention, p.phase);
  const Tensor products =
      co_await gather_rows(rank.endpoint, on, rank.head_group(), tag, groups, mine);
  std::vector<float> shares(d.cols / rank.model.head_dim);
  for (const int32_t head : p.heads)
    shares[head] += static_cast<float>(p.all_heads) / static_cast<float>(rank.model.heads);
  on.run(SplitNormBackward{.x = p.kept.before,
                           .weight = p.norm,
                           .scale = p.kept.statistics,
                           .dy = d,
                           .products = products,
                           .dx = dx,
                           .dweight = dnorm,
                           .shares = shares,
                           .width = p.all_heads * rank.model.head_dim});
}

}  // namespace

Projection query_projection(Rank& rank, const AttentionParameters& w, LayerActivations& a) {
  return {w.query,          w.query_bias, w.query_norm, rank.query_head,
          rank.model.heads, a.queries,    /*phase=*/10};
}

Projection key_projection(Rank& rank, const AttentionParameters& w, LayerActivations& a) {
  return {w.key, w.key_bias, w.key_norm, rank.kv_head, rank.model.kv_heads, a.keys, /*phase=*/11};
}

Task<> project(Rank& rank, Track& on, Projection p, Tensor x, Tensor y) {
  if (x.rows == 0) co_return;
  if (p.norm) {
    p.kept.before = linear(on, x, p.weight, p.bias, DType::f32);
    const int64_t pieces = rank.model.whole_norm ? 1 : y.cols / p.norm.cols;
    p.kept.statistics = kept(rank, on, x.rows, 2 * pieces, DType::f32);
    if (rank.model.whole_norm)
      co_await whole_norm(rank, on, p, p.kept.before, y);
    else
      projection_norm(rank, on, p.kept.before, p.norm, y, p.kept.statistics);
  } else {
    on.run(Linear{.x = x, .weight = p.weight, .bias = p.bias, .y = y});
  }
  clip(rank, on, y, p.kept.unclipped);
}

Task<> project_backward(Rank& rank, Track& on, Projection p, Tensor d, Tensor dnorm) {
  if (d.empty()) co_return;
  clip_backward(rank, on, p.kept.unclipped, d);
  if (!p.norm) co_return;
  const Tensor dy = as_type(on, d, DType::f32);
  const Tensor dx = on.allocate(d.rows, d.cols, DType::f32);
  if (rank.model.whole_norm)
    co_await whole_norm_backward(rank, on, p, dy, dx, dnorm);
  else
    projection_norm_backward(on, p.kept.before, p.norm, p.kept.statistics, dy, dx, dnorm);
  on.run(CopyRows{.from = dx, .to = d});
}

void clip(const Rank& rank, const Track& on, const Tensor& y, Tensor& before) {
  if (rank.model.clip_qkv <= 0 || y.empty()) return;
  before = kept(rank, on, y.rows, y.cols, y.dtype);
  if (before) on.run(CopyRows{.from = y, .to = before});
  on.run(Clip{.x = y, .limit = static_cast<float>(rank.model.clip_qkv)});
}

void clip_backward(const Rank& rank, const Track& on, const Tensor& before, const Tensor& d) {
  if (rank.model.clip_qkv <= 0 || d.empty()) return;
  on.run(ClipBackward{.x = before, .dx = d, .limit = static_cast<float>(rank.model.clip_qkv)});
}

}  // namespace tandem
