#include <cmath>

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
    const size_t blocks = (sequence.rows.size() + kv_block_tokens - 1) / kv_block_tokens;
    add_sequence(sequence, pass.rows, std::span(view.block_rows).subspan(first, blocks), view);
    first += blocks;
  }
}

// Keys and values of the whole shard: its own rows, and those of the other sequence shards.
Task<> project_keys_values(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                           LayerActivations& a) {
  const int64_t width = w.key.rows;
  Tensor mine = on.allocate(a.rows.rows, 2 * width, rank.dtype());
  if (!mine.empty()) {
    const Tensor keys = mine.slice_cols({0, width});
    on.run(Linear{.x = a.rows, .weight = w.key, .bias = w.key_bias, .y = keys});
    on.run(Linear{.x = a.rows,
                  .weight = w.value,
                  .bias = w.value_bias,
                  .y = mine.slice_cols({width, 2 * width})});
    if (rank.rotation)
      on.run(Rotate{
          .x = keys,
          .rotation = rank.rotation,
          .positions = std::span(pass.batch.positions).subspan(pass.rows.compute.begin, mine.rows),
          .head_dim = rank.model.head_dim});
  }
  const Tag tag = tag_of(on, MessageKind::attention, 1);
  a.keys_values = co_await gather_rows(rank.endpoint, on, rank.sequence_group(), tag,
                                       pass.rows.sequence_parts, mine);
}

Tensor project_queries(Rank& rank, Pass& pass, Track& on, const AttentionParameters& w,
                       const Tensor& rows) {
  Tensor q = linear(on, rows, w.query, w.query_bias, rank.dtype());
  if (rank.rotation && !q.empty())
    on.run(Rotate{
        .x = q,
        .rotation = rank.rotation,
        .positions = std::span(pass.batch.positions).subspan(pass.rows.compute.begin, q.rows),
        .head_dim = rank.model.head_dim});
  return q;
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

AttentionHeads heads_of(const Rank& rank) {
  return {.head_dim = rank.model.head_dim,
          .value_dim = rank.model.head_dim,
          .kv_head = rank.kv_head,
          .first_head = rank.stage().attention.head_range(rank.role.place.group).begin,
          .scale = 1 / std::sqrt(static_cast<float>(rank.model.head_dim))};
}

Task<Tensor> attention_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  Tensor h = normed(rank, on, a.x_before, w.norm, w.norm_bias, a.statistics);
  a.rows = co_await to_compute(rank, pass, on, h, 0);
  a.q = project_queries(rank, pass, on, w, a.rows);
  co_await project_keys_values(rank, pass, on, w, a);

  const int64_t width = w.key.rows;
  Tensor keys = a.keys_values.slice_cols({0, width});
  Tensor values = a.keys_values.slice_cols({width, 2 * width});
  if (rank.cached && !keys.empty()) {
    const int64_t layer = on.layer - rank.stage().layers.begin;
    on.run(CopyRows{.from = keys, .to = rank.cache->keys(layer), .to_rows = pass.view.cache_rows});
    on.run(
        CopyRows{.from = values, .to = rank.cache->values(layer), .to_rows = pass.view.cache_rows});
    keys = rank.cache->keys(layer);
    values = rank.cache->values(layer);
  }
  a.out = on.allocate(a.q.rows, a.q.cols, rank.dtype());
  a.logsumexp = kept(rank, on, a.q.rows, static_cast<int64_t>(rank.kv_head.size()), DType::f32);
  if (!a.q.empty())
    on.run(Attention{
        .q = a.q,
        .keys = keys,
        .values = values,
        .out = a.out,
        .logsumexp = a.logsumexp,
        .sequences = pass.view.sequences,
        .heads = heads_of(rank),
        .dropout = rank.dropout(RandomStream::attention_dropout, rank.model.attention_dropout,
                                on.layer, keys_of(pass.batch, pass.rows.compute))});

  if (rank.stage().exchange == Exchange::heads) {
    const Tag tag = tag_of(on, MessageKind::attention, 2);
    a.head_rows = co_await columns_to_rows(rank.endpoint, on, rank.head_group(), tag,
                                           pass.rows.group_parts, rank.head_features, a.out);
    co_return linear(on, a.head_rows, w.output, w.output_bias, rank.dtype());
  }
  // The bias belongs to the sum: one of the addends brings it.
  const Tensor bias = rank.role.place.group == 0 ? w.output_bias : Tensor{};
  Tensor addend = linear(on, a.out, w.output, bias, rank.dtype());
  co_return co_await to_owners(rank, pass, on, addend, 2);
}

}  // namespace tandem
