#include "tandem/model/rotary.h"
#include "tandem/runtime/latent.h"
#include "tandem/runtime/projection.h"
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Query rows of each sequence that stand in `compute`, counted from its first row.
void add_sequence(const BatchSequence& sequence, const RowLayout& rows,
                  std::span<const int32_t> blocks, AttentionView& view) {
  const Interval query = overlap(sequence.rows, rows.compute);
  if (query.empty()) return;
  view.sequences.push_back(
      {.query_rows = query.shifted(-rows.compute.begin),
       .first_position = sequence.first_position + query.begin - sequence.rows.begin,
       .block_rows = blocks});
}

void view_of_cache(Rank& rank, Pass& pass) {
  for (const BatchSequence& sequence : pass.batch.sequences) {
    if (!pass.rows.shard.contains(sequence.rows)) continue;
    const int64_t end = sequence.first_position + sequence.rows.size();
    rank.cache->reserve(sequence.slot, end);
    for (int64_t position = sequence.first_position; position < end; ++position)
      pass.view.cache_rows.push_back(rank.cache->row(sequence.slot, position));
    add_sequence(sequence, pass.rows, rank.cache->block_rows(sequence.slot), pass.view);
  }
}

// In training the keys and values of a shard stand in one tensor, in the order of its rows.
void view_of_rows(Pass& pass) {
  AttentionView& view = pass.view;
  view.block_rows.clear();
  for (const BatchSequence& sequence : pass.batch.sequences)
    if (pass.rows.shard.contains(sequence.rows))
      for (int64_t row = sequence.rows.begin; row < sequence.rows.end; row += kv_block_tokens)
        view.block_rows.push_back(static_cast<int32_t>(row - pass.rows.shard.begin));
  size_t first = 0;
  for (const BatchSequence& sequence : pass.batch.sequences) {
    if (!pass.rows.shard.contains(sequence.rows)) continue;
    const auto blocks = static_cast<size_t>(kv_blocks(sequence.rows.size()));
    add_sequence(sequence, pass.rows, std::span(view.block_rows).subspan(first, blocks), view);
    first += blocks;
  }
}

// Keys and values of the whole shard: its own rows, and those of the other sequence shards.
Task<> project_keys_values(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                           LayerActivations& a) {
  Tensor mine = on.allocate(a.rows.rows, rank.cache_width, rank.dtype());
  const Tensor keys = mine.slice_cols(rank.key_columns);
  if (w.latent_up) {
    compress(rank, on, w, a, mine);
  } else if (!mine.empty()) {
    const Tensor values = mine.slice_cols(rank.value_columns);
    co_await project(rank, on, key_projection(rank, w, a), a.rows, keys);
    on.run(Linear{.x = a.rows, .weight = w.value, .bias = w.value_bias, .y = values});
    clip(rank, on, values, a.unclipped_values);
  }
  rotate(rank, pass, on, keys, rank.model.key_dim());
  const Tag tag = tag_of(on, MessageKind::attention, 1);
  a.keys_values = co_await gather_rows(rank.endpoint, on, rank.sequence_group(), tag,
                                       pass.rows.sequence_parts, mine);
}

Task<> project_queries(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                       LayerActivations& a) {
  const Tensor from = w.query_latent ? query_latent_rows(rank, on, w, a) : a.rows;
  a.q = on.allocate(from.rows, w.query.rows, rank.dtype());
  co_await project(rank, on, query_projection(rank, w, a), from, a.q);
  rotate(rank, pass, on, a.q, rank.model.head_dim);
  if (!w.latent_up) co_return;
  a.projected_q = a.q;
  a.q = absorbed_queries(rank, on, w, a.projected_q);
}

}  // namespace

void build_view(Rank& rank, Pass& pass) {
  pass.view.sequences.clear();
  pass.view.cache_rows.clear();
  if (rank.cached)
    view_of_cache(rank, pass);
  else
    view_of_rows(pass);
}

void rotate(const Rank& rank, const Pass& pass, const Track& on, const Tensor& x, int64_t head_dim,
            bool backward) {
  if (!rank.rotation || x.empty()) return;
  on.run(
      Rotate{.x = x,
             .rotation = rank.rotation,
             .positions = std::span(pass.batch.positions).subspan(pass.rows.compute.begin, x.rows),
             .head_dim = head_dim,
             .interleaved = rank.model.interleaved_rotary,
             .backward = backward});
}

AttentionHeads heads_of(const Rank& rank) {
  return {.head_dim = rank.model.key_dim(),
          .value_dim = rank.model.attended_dim(),
          .kv_head = rank.kv_head,
          .first_head = rank.stage().attention.head_range(rank.role.place.group).begin,
          .scale = static_cast<float>(score_scale(rank.model))};
}

Task<Tensor> attention_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  Tensor h = normed(rank, on, a.x_before, w.norm, w.norm_bias, a.statistics);
  a.rows = co_await to_compute(rank, pass, on, h, 0);
  co_await project_queries(rank, pass, on, w, a);
  co_await project_keys_values(rank, pass, on, w, a);

  Tensor seen = a.keys_values;
  if (rank.cached && !seen.empty()) {
    const Tensor& cache = rank.cache->rows(on.layer - rank.stage().layers.begin);
    on.run(CopyRows{.from = seen, .to = cache, .to_rows = pass.view.cache_rows});
    seen = cache;
  }
  const auto heads = static_cast<int64_t>(rank.kv_head.size());
  a.out = on.allocate(a.q.rows, heads * rank.model.attended_dim(), rank.dtype());
  a.logsumexp = kept(rank, on, a.q.rows, heads, DType::f32);
  if (!a.q.empty())
    on.run(Attention{
        .q = a.q,
        .keys = seen.slice_cols(rank.key_columns),
        .values = seen.slice_cols(rank.value_columns),
        .out = a.out,
        .logsumexp = a.logsumexp,
        .sequences = pass.view.sequences,
        .heads = heads_of(rank),
        .dropout = rank.dropout(RandomStream::attention_dropout, rank.model.attention_dropout,
                                on.layer, keys_of(pass.batch, pass.rows.compute))});
  a.head_out = w.latent_up ? expanded(rank, on, w, a.out) : a.out;

  if (rank.stage().exchange == Exchange::heads) {
    const Tag tag = tag_of(on, MessageKind::attention, 2);
    a.head_rows = co_await columns_to_rows(rank.endpoint, on, rank.head_group(), tag,
                                           pass.rows.group_parts, rank.head_features, a.head_out);
    co_return linear(on, a.head_rows, w.output, w.output_bias, rank.dtype());
  }
  // The bias belongs to the sum: one of the addends brings it.
  const Tensor bias = rank.role.place.group == 0 ? w.output_bias : Tensor{};
  Tensor addend = linear(on, a.head_out, w.output, bias, rank.dtype());
  co_return co_await to_owners(rank, pass, on, addend, 2);
}

}  // namespace tandem
