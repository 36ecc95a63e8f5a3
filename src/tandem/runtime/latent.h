// Latent attention (DeepSeek-V2, section 2.1) as grouped-query attention over latent rows: one K/V
// head, whose keys are the latent and the rotated columns and whose values are the latent ones.
// Each head's key rows of latent_up are applied to its queries and its value rows to its results
// ("absorbed"), so that keys and values of heads are never made.
#pragma once

#include "tandem/runtime/rank.h"

namespace tandem {

// Where a head stands in what heads have columns or rows in.
struct LatentHeads {
  explicit LatentHeads(const ModelConfig& model);
  HeadSlices projected, absorbed;   // unrotated columns of its query, before and after
  HeadSlices attended, output;      // columns of its result, before and after
  HeadSlices key_rows, value_rows;  // of latent_up
};

// The last `rotated` columns of every head, where heads have from_head and to_head columns.
void copy_rotated(const Track& on, const Tensor& from, int64_t from_head, const Tensor& to,
                  int64_t to_head, int64_t rotated);

// Normed latent rows from which queries are made; kept in `a`.
Tensor query_latent_rows(Rank& rank, const Track& on, const AttentionParameters& w,
                         LayerActivations& a);
// [rows, heads * head_dim] -> [rows, heads * key_dim].
Tensor absorbed_queries(Rank& rank, const Track& on, const AttentionParameters& w, const Tensor& q);
// Writes the latent rows of a.rows, normed, and the columns that are yet to be rotated.
void compress(Rank& rank, const Track& on, const AttentionParameters& w, LayerActivations& a,
              const Tensor& to);
// [rows, heads * latent] -> [rows, heads * value_dim].
Tensor expanded(Rank& rank, const Track& on, const AttentionParameters& w, const Tensor& out);

// Backward: from the gradient of what each returned to that of what it was given; those of the
// weights are added up.
Tensor query_latent_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                             const AttentionParameters& g, const LayerActivations& a,
                             const Tensor& drows);
Tensor absorbed_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a, const Tensor& dq);
// Of a.latent, from that of the latent rows (f32).
Tensor compress_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a,
                         const Tensor& dlatent_rows);
Tensor expanded_backward(Rank& rank, const Track& on, const AttentionParameters& w,
                         const AttentionParameters& g, const LayerActivations& a,
                         const Tensor& dhead_out);

}  // namespace tandem
