#include "tandem/runtime/latent.h"
#include "tandem/runtime/projection.h"
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Gradients of x and of the weights of y = x weight^T.
void linear_backward(const Track& on, const Tensor& dy, const Tensor& x, const Tensor& weight,
                     const Tensor& dx, bool accumulate, const Tensor& dweight,
                     const Tensor& dbias = {}) {
  on.run(LinearInputGradient{.dy = dy, .weight = weight, .dx = dx, .accumulate = accumulate});
  on.run(LinearWeightGradient{.dy = dy, .x = x, .dweight = dweight, .dbias = dbias});
}

// Gradient of the head outputs [compute, heads * d] from that of the residual branch [owned, H].
Task<Tensor> output_backward(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                             const AttentionParameters& g, LayerActivations& a, Tensor dy) {
  const bool whole = rank.stage().exchange == Exchange::heads;
  if (!whole) dy = co_await to_compute(rank, pass, on, dy, 0);
  const Tensor& input = whole ? a.head_rows : a.head_out;
  Tensor dinput = on.allocate(dy.rows, w.output.cols, rank.dtype());
  const bool brings_bias = whole || rank.role.place.group == 0;
  if (!dy.empty())
    linear_backward(on, dy, input, w.output, dinput, false, g.output,
                    brings_bias ? g.output_bias : Tensor{});
  if (!whole) co_return dinput;
  const Tag tag = tag_of(on, MessageKind::attention, 1);
  co_return co_await rows_to_columns(rank.endpoint, on, rank.head_group(), tag,
                                     pass.rows.group_parts, rank.head_features, dinput);
}

struct Projected {
  Tensor dq;   // [compute, heads * d], of the projected queries
  Tensor dkv;  // f32 [compute, cache width], of this rank's own rows
};

Task<Projected> scores_backward(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                                const AttentionParameters& g, LayerActivations& a,
                                const Tensor& dout) {
  Projected result{.dq = on.allocate(a.q.rows, a.q.cols, rank.dtype())};
  Tensor dkv = on.allocate(a.keys_values.rows, a.keys_values.cols, DType::f32);
  // Values that are keys as well have two gradients, which are added.
  const bool apart = overlap(rank.key_columns, rank.value_columns).empty();
  Tensor dvalues = dkv.slice_cols(rank.value_columns);
  if (!apart) dvalues = on.allocate(dvalues.rows, dvalues.cols, DType::f32);
  if (!dkv.empty()) on.run(Zero{.x = dkv});
  if (!dkv.empty() && !apart) on.run(Zero{.x = dvalues});
  if (!a.q.empty())
    on.run(AttentionBackward{
        .q = a.q,
        .keys = a.keys_values.slice_cols(rank.key_columns),
        .values = a.keys_values.slice_cols(rank.value_columns),
        .out = a.out,
        .logsumexp = a.logsumexp,
        .dout = dout,
        .dq = result.dq,
        .dkeys = dkv.slice_cols(rank.key_columns),
        .dvalues = dvalues,
        .sequences = pass.view.sequences,
        .heads = heads_of(rank),
        .dropout = rank.dropout(RandomStream::attention_dropout, rank.model.attention_dropout,
                                on.layer, keys_of(pass.batch, pass.rows.compute))});
  if (!dkv.empty() && !apart)
    on.run(AddRows{.from = dvalues, .to = dkv.slice_cols(rank.value_columns)});
  const Tag tag = tag_of(on, MessageKind::attention, 2);
  result.dkv = co_await reduce_scatter_rows(rank.endpoint, on, rank.sequence_group(), tag,
                                            pass.rows.sequence_parts, dkv);
  if (w.latent_up) result.dq = absorbed_backward(rank, on, w, g, a, result.dq);
  rotate(rank, pass, on, result.dq, rank.model.head_dim, true);
  const Tensor dkeys = result.dkv.slice_cols(rank.key_columns);
  rotate(rank, pass, on, dkeys, rank.model.key_dim(), true);
  co_await project_backward(rank, on, query_projection(rank, w, a), result.dq, g.query_norm);
  if (!w.latent_up) {
    co_await project_backward(rank, on, key_projection(rank, w, a), dkeys, g.key_norm);
    clip_backward(rank, on, a.unclipped_values, result.dkv.slice_cols(rank.value_columns));
  }
  co_return result;
}

// Writes the gradient of the normed rows.
void projections_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                          const AttentionParameters& g, const LayerActivations& a,
                          const Projected& d, const Tensor& drows) {
  if (w.query_latent) {
    const Tensor dnormed = on.allocate(drows.rows, w.query_latent.rows, DType::f32);
    linear_backward(on, d.dq, a.query_rows, w.query, dnormed, false, g.query, g.query_bias);
    const Tensor dlatent = query_latent_backward(rank, on, w, g, a, dnormed);
    linear_backward(on, dlatent, a.rows, w.query_latent, drows, false, g.query_latent);
  } else {
    linear_backward(on, d.dq, a.rows, w.query, drows, false, g.query, g.query_bias);
  }
  if (w.latent_up) {
    const Tensor dlatent = compress_backward(rank, on, w, g, a, d.dkv);
    return linear_backward(on, dlatent, a.rows, w.key, drows, true, g.key);
  }
  const Tensor dkv = as_type(on, d.dkv, rank.dtype());
  const Tensor dk = dkv.slice_cols(rank.key_columns), dv = dkv.slice_cols(rank.value_columns);
  linear_backward(on, dk, a.rows, w.key, drows, true, g.key, g.key_bias);
  linear_backward(on, dv, a.rows, w.value, drows, true, g.value, g.value_bias);
}

}  // namespace

Task<> attention_backward_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a, Tensor dx) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  const AttentionParameters& g = rank.gradients.layer(on.layer).attention;
  Tensor dy = on.allocate(dx.rows, dx.cols, rank.dtype());
  if (!dx.empty())
    on.run(ResidualBackward{
        .dresidual = dx,
        .dy = dy,
        .dropout = rank.dropout(RandomStream::hidden_dropout, rank.model.hidden_dropout,
                                2 * on.layer, keys_of(pass.batch, pass.rows.owned))});
  Tensor dout = co_await output_backward(rank, pass, on, w, g, a, dy);
  if (w.latent_up) dout = expanded_backward(rank, on, w, g, a, dout);
  Projected d = co_await scores_backward(rank, pass, on, w, g, a, dout);
  Tensor drows = on.allocate(a.rows.rows, a.rows.cols, DType::f32);
  if (!drows.empty()) projections_backward(rank, on, w, g, a, d, drows);
  Tensor dh = co_await to_owners(rank, pass, on, drows, 3);
  if (!dh.empty())
    on.run(NormBackward{.kind = norm_kind(rank.model),
                        .x = a.x_before,
                        .weight = w.norm,
                        .statistics = a.statistics,
                        .dy = dh,
                        .dx = dx,
                        .dweight = g.norm,
                        .dbias = g.norm_bias,
                        .weight_rows = pass.rows.mine.shifted(-pass.rows.owned.begin)});
}

}  // namespace tandem
