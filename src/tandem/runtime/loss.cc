#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

Interval vocabulary_slice(const Rank& rank) {
  return part(rank.model.vocab_size, static_cast<int64_t>(rank.stage().attention.ranks.size()),
              rank.role.place.index);
}

// Targets as columns of this rank's slice of the vocabulary.
Array<int32_t> local_targets(Rank& rank, const Pass& pass) {
  const auto first = static_cast<int32_t>(vocabulary_slice(rank).begin);
  Array<int32_t> targets(&rank.frames());
  for (const int32_t target : pass.batch.targets) targets.push_back(target - first);
  return targets;
}

// Rows that each rank of the grid is responsible for.
Array<Interval> row_parts(Rank& rank, const Pass& pass) {
  const Stage& stage = rank.stage();
  Array<Interval> parts(&rank.frames());
  for (int i = 0; i < static_cast<int>(stage.attention.ranks.size()); ++i)
    parts.push_back(responsible_rows(stage, place_of(stage.attention, i), pass.batch));
  return parts;
}

}  // namespace

// Every rank scores all rows against its slice of the vocabulary; the slices' statistics are then
// joined by everyone, in the order of the slices.
Task<> loss(Rank& rank, Pass& pass, Track& on) {
  const Array<Interval> parts = row_parts(rank, pass);
  Tensor h = normed(rank, on, pass.x, rank.weights.final_norm, rank.weights.final_norm_bias,
                    pass.head_statistics);
  Tensor mine = h.slice_rows(pass.rows.mine.shifted(-pass.rows.owned.begin));
  const Tag rows_tag = tag_of(on, MessageKind::vocabulary, 1);
  pass.head_rows =
      co_await gather_rows(rank.endpoint, on, rank.grid_group(), rows_tag, parts, mine);
  pass.logits = linear(on, pass.head_rows, rank.weights.head, {}, DType::f32);
  const int64_t rows = pass.logits.rows;
  const Array<int32_t> targets = local_targets(rank, pass);
  Tensor statistics = on.allocate(rows, 3, DType::f32);
  on.run(VocabularyStatistics{.logits = pass.logits, .statistics = statistics, .targets = targets});

  const Group group = rank.grid_group();
  Array<Interval> stacked(&rank.frames());
  for (int i = 0; i < group.size(); ++i) stacked.push_back({i * rows, (i + 1) * rows});
  const Tag statistics_tag = tag_of(on, MessageKind::vocabulary, 2);
  const Tensor all =
      co_await gather_rows(rank.endpoint, on, group, statistics_tag, stacked, statistics);
  Array<Tensor> slices(&rank.frames());
  for (const Interval& slice : stacked) slices.push_back(all.slice_rows(slice));
  pass.loss = on.allocate(rows, 2, DType::f32);
  on.run(JoinStatistics{.parts = slices, .row_weights = pass.batch.weights, .loss = pass.loss});
  const auto losses = rank.device.floats(pass.loss);
  for (int64_t row = pass.rows.mine.begin; row < pass.rows.mine.end; ++row) {
    pass.loss_sum += double{pass.batch.weights[row]} * losses[2 * row + 1];
    pass.token_weight += pass.batch.weights[row];
  }
  if (!rank.keeps) pass.logits = pass.head_rows = {};
}

Task<Tensor> loss_backward(Rank& rank, Pass& pass, Track& on) {
  const Array<Interval> parts = row_parts(rank, pass);
  const Array<int32_t> targets = local_targets(rank, pass);
  Array<float> row_weights(&rank.frames());
  for (const float weight : pass.batch.weights)
    row_weights.push_back(static_cast<float>(weight / rank.batch_tokens));
  Tensor dlogits = on.allocate(pass.logits.rows, pass.logits.cols, rank.dtype());
  on.run(VocabularyGradient{.logits = pass.logits,
                            .loss = pass.loss,
                            .dlogits = dlogits,
                            .targets = targets,
                            .row_weights = row_weights});
  pass.logits = {};
  Tensor addend = on.allocate(dlogits.rows, rank.model.hidden_size, DType::f32);
  on.run(LinearInputGradient{.dy = dlogits, .weight = rank.weights.head, .dx = addend});
  co_await rank.vocabulary_gate->wait(pass.turn);
  on.run(LinearWeightGradient{.dy = dlogits, .x = pass.head_rows, .dweight = rank.gradients.head});
  pass.head_rows = {};

  const Tag sum_tag = tag_of(on, MessageKind::vocabulary, 1);
  Tensor dh =
      co_await reduce_scatter_rows(rank.endpoint, on, rank.grid_group(), sum_tag, parts, addend);
  if (pass.rows.replicated) {
    const Tag gather_tag = tag_of(on, MessageKind::vocabulary, 2);
    dh = co_await gather_rows(rank.endpoint, on, rank.head_group(), gather_tag,
                              pass.rows.group_parts, dh);
  }
  Tensor dx = on.allocate(dh.rows, dh.cols, DType::f32);
  if (!dx.empty()) {
    on.run(Zero{.x = dx});
    on.run(NormBackward{.kind = norm_kind(rank.model),
                        .x = pass.x,
                        .weight = rank.weights.final_norm,
                        .statistics = pass.head_statistics,
                        .dy = dh,
                        .dx = dx,
                        .dweight = rank.gradients.final_norm,
                        .dbias = rank.gradients.final_norm_bias,
                        .weight_rows = pass.rows.mine.shifted(-pass.rows.owned.begin)});
  }
  rank.vocabulary_gate->pass();
  co_return dx;
}

}  // namespace tandem
