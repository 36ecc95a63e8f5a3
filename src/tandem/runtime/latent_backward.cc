#include "tandem/runtime/latent.h"
#include "tandem/runtime/steps.h"

namespace tandem {
Tensor query_latent_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                             const AttentionParameters& g, const LayerActivations& a,
                             const Tensor& drows) {
  const Tensor dx = on.allocate(drows.rows, drows.cols, DType::f32);
  if (!drows.empty())
    projection_norm_backward(on, a.query_latent, w.query_latent_norm, a.query_statistics, drows, dx,
                             g.query_latent_norm);
  return as_type(on, dx, rank.dtype());
}

Tensor absorbed_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a,
                         const Tensor& dq) {
  const ModelConfig& m = rank.model;
  const LatentHeads heads(m);
  Tensor to = on.allocate(dq.rows, a.projected_q.cols, dq.dtype);
  if (dq.empty()) return to;
  on.run(HeadLinear{.x = dq,
                    .weight = w.latent_up,
                    .y = to,
                    .x_columns = heads.absorbed,
                    .weight_rows = heads.key_rows,
                    .y_columns = heads.projected});
  on.run(HeadLinearWeightGradient{.dy = a.projected_q,
                                  .x = dq,
                                  .dweight = g.latent_up,
                                  .dy_columns = heads.projected,
                                  .x_columns = heads.absorbed,
                                  .weight_rows = heads.key_rows});
  copy_rotated(on, dq, m.key_dim(), to, m.head_dim, m.rotary_dim);
  return to;
}

Tensor compress_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a,
                         const Tensor& dlatent_rows) {
  const Interval latent{0, rank.model.kv_latent}, rotated{latent.end, rank.model.key_dim()};
  const Tensor dx = on.allocate(dlatent_rows.rows, dlatent_rows.cols, DType::f32);
  if (dx.empty()) return as_type(on, dx, rank.dtype());
  projection_norm_backward(on, a.latent.slice_cols(latent), w.latent_norm, a.latent_statistics,
                           dlatent_rows.slice_cols(latent), dx.slice_cols(latent), g.latent_norm);
  on.run(CopyRows{.from = dlatent_rows.slice_cols(rotated), .to = dx.slice_cols(rotated)});
  return as_type(on, dx, rank.dtype());
}

Tensor expanded_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a,
                         const Tensor& dhead_out) {
  const LatentHeads heads(rank.model);
  Tensor dout = on.allocate(a.out.rows, a.out.cols, a.out.dtype);
  if (dout.empty()) return dout;
  on.run(HeadLinear{.x = dhead_out,
                    .weight = w.latent_up,
                    .y = dout,
                    .x_columns = heads.output,
                    .weight_rows = heads.value_rows,
                    .y_columns = heads.attended,
                    .transposed = true});
  on.run(HeadLinearWeightGradient{.dy = dhead_out,
                                  .x = a.out,
                                  .dweight = g.latent_up,
                                  .dy_columns = heads.output,
                                  .x_columns = heads.attended,
                                  .weight_rows = heads.value_rows});
  return dout;
}

}  // namespace tandem
