#include "tandem/runtime/latent.h"

#include "tandem/runtime/steps.h"

namespace tandem {
LatentHeads::LatentHeads(const ModelConfig& m)
    : projected{0, m.unrotated_dim, m.head_dim},
      absorbed{0, m.kv_latent, m.key_dim()},
      attended{0, m.kv_latent, m.kv_latent},
      output{0, m.value_dim, m.value_dim},
      key_rows{0, m.unrotated_dim, m.unrotated_dim + m.value_dim},
      value_rows{m.unrotated_dim, m.value_dim, m.unrotated_dim + m.value_dim} {}

void copy_rotated(const Track& on, const Tensor& from, int64_t from_head, const Tensor& to,
                  int64_t to_head, int64_t rotated) {
  on.run(CopyRows{.from = from.split_rows(from_head).slice_cols({from_head - rotated, from_head}),
                  .to = to.split_rows(to_head).slice_cols({to_head - rotated, to_head})});
}

Tensor query_latent_rows(Rank& rank, const Track& on, const AttentionParameters& w,
                         LayerActivations& a) {
  a.query_latent = linear(on, a.rows, w.query_latent, {}, DType::f32);
  a.query_statistics = kept(rank, on, a.rows.rows, 2, DType::f32);
  a.query_rows = on.allocate(a.rows.rows, w.query_latent.rows, rank.dtype());
  projection_norm(rank, on, a.query_latent, w.query_latent_norm, a.query_rows, a.query_statistics);
  return a.query_rows;
}

Tensor absorbed_queries(Rank& rank, const Track& on, const AttentionParameters& w,
                        const Tensor& q) {
  const ModelConfig& m = rank.model;
  const LatentHeads heads(m);
  Tensor to = on.allocate(q.rows, q.cols / m.head_dim * m.key_dim(), q.dtype);
  if (q.empty()) return to;
  on.run(HeadLinear{.x = q,
                    .weight = w.latent_up,
                    .y = to,
                    .x_columns = heads.projected,
                    .weight_rows = heads.key_rows,
                    .y_columns = heads.absorbed,
                    .transposed = true});
  copy_rotated(on, q, m.head_dim, to, m.key_dim(), m.rotary_dim);
  return to;
}

void compress(Rank& rank, const Track& on, const AttentionParameters& w, LayerActivations& a,
              const Tensor& to) {
  const Interval latent{0, rank.model.kv_latent}, rotated{latent.end, rank.model.key_dim()};
  a.latent = linear(on, a.rows, w.key, {}, DType::f32);
  a.latent_statistics = kept(rank, on, a.rows.rows, 2, DType::f32);
  if (to.empty()) return;
  projection_norm(rank, on, a.latent.slice_cols(latent), w.latent_norm, to.slice_cols(latent),
                  a.latent_statistics);
  on.run(CopyRows{.from = a.latent.slice_cols(rotated), .to = to.slice_cols(rotated)});
}

Tensor expanded(Rank& rank, const Track& on, const AttentionParameters& w, const Tensor& out) {
  const LatentHeads heads(rank.model);
  const int64_t count = out.cols / rank.model.kv_latent;
  Tensor to = on.allocate(out.rows, count * rank.model.value_dim, out.dtype);
  if (!out.empty())
    on.run(HeadLinear{.x = out,
                      .weight = w.latent_up,
                      .y = to,
                      .x_columns = heads.attended,
                      .weight_rows = heads.value_rows,
                      .y_columns = heads.output});
  return to;
}

}  // namespace tandem
