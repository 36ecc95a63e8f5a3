#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Gradient of the head outputs [compute, heads * d] from that of the residual branch [owned, H].
Task<Tensor> output_backward(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                             const AttentionParameters& g, LayerActivations& a, Tensor dy) {
  const bool whole = rank.stage().exchange == Exchange::heads;
  if (!whole) dy = co_await to_compute(rank, pass, on, dy, 0);
  const Tensor& input = whole ? a.head_rows : a.out;
  Tensor dinput = on.allocate(dy.rows, w.output.cols, rank.dtype());
  if (!dy.empty()) {
    on.run(LinearInputGradient{.dy = dy, .weight = w.output, .dx = dinput});
    const bool brings_bias = whole || rank.role.place.group == 0;
    on.run(LinearWeightGradient{.dy = dy,
                                .x = input,
                                .dweight = g.output,
                                .dbias = brings_bias ? g.output_bias : Tensor{}});
  }
  if (!whole) co_return dinput;
  const Tag tag = tag_of(on, MessageKind::attention, 1);
  co_return co_await rows_to_columns(rank.endpoint, on, rank.head_group(), tag,
                                     pass.rows.group_parts, rank.head_features, dinput);
}

struct Projected {
  Tensor dq;   // [compute, heads * d]
  Tensor dkv;  // [compute, 2 * width]
};

Task<Projected> scores_backward(Rank& rank, Pass& pass, Track& on, LayerActivations& a,
                                Tensor dout) {
  const int64_t width = a.keys_values.cols / 2;
  Projected result{.dq = on.allocate(a.q.rows, a.q.cols, rank.dtype())};
  Tensor dkv = on.allocate(a.keys_values.rows, 2 * width, DType::f32);
  if (!dkv.empty()) on.run(Zero{.x = dkv});
  if (!a.q.empty())
    on.run(AttentionBackward{
        .q = a.q,
        .keys = a.keys_values.slice_cols({0, width}),
        .values = a.keys_values.slice_cols({width, 2 * width}),
        .out = a.out,
        .logsumexp = a.logsumexp,
        .dout = dout,
        .dq = result.dq,
        .dkeys = dkv.slice_cols({0, width}),
        .dvalues = dkv.slice_cols({width, 2 * width}),
        .sequences = pass.view.sequences,
        .heads = heads_of(rank),
        .dropout = rank.dropout(RandomStream::attention_dropout, rank.model.attention_dropout,
                                on.layer, keys_of(pass.batch, pass.rows.compute))});
  const Tag tag = tag_of(on, MessageKind::attention, 2);
  Tensor mine = co_await reduce_scatter_rows(rank.endpoint, on, rank.sequence_group(), tag,
                                             pass.rows.sequence_parts, dkv);
  result.dkv = as_type(on, mine, rank.dtype());
  if (rank.rotation && !a.q.empty()) {
    const auto positions =
        std::span(pass.batch.positions).subspan(pass.rows.compute.begin, a.q.rows);
    for (const Tensor& x : {result.dq, result.dkv.slice_cols({0, width})})
      on.run(Rotate{.x = x,
                    .rotation = rank.rotation,
                    .positions = positions,
                    .head_dim = rank.model.head_dim,
                    .backward = true});
  }
  co_return result;
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
  Projected d = co_await scores_backward(rank, pass, on, a, dout);

  const int64_t width = w.key.rows;
  Tensor drows = on.allocate(a.rows.rows, a.rows.cols, DType::f32);
  if (!drows.empty()) {
    const Tensor dk = d.dkv.slice_cols({0, width});
    const Tensor dv = d.dkv.slice_cols({width, 2 * width});
    on.run(LinearInputGradient{.dy = d.dq, .weight = w.query, .dx = drows});
    on.run(LinearInputGradient{.dy = dk, .weight = w.key, .dx = drows, .accumulate = true});
    on.run(LinearInputGradient{.dy = dv, .weight = w.value, .dx = drows, .accumulate = true});
    on.run(
        LinearWeightGradient{.dy = d.dq, .x = a.rows, .dweight = g.query, .dbias = g.query_bias});
    on.run(LinearWeightGradient{.dy = dk, .x = a.rows, .dweight = g.key, .dbias = g.key_bias});
    on.run(LinearWeightGradient{.dy = dv, .x = a.rows, .dweight = g.value, .dbias = g.value_bias});
  }
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
