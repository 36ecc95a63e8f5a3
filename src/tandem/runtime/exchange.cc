#include "tandem/runtime/steps.h"

namespace tandem {

Task<Tensor> to_compute(Rank& rank, Pass& pass, Track& on, Tensor owned, uint8_t phase) {
  if (pass.rows.replicated) co_return owned;
  const Tag tag = tag_of(on, MessageKind::attention, phase);
  co_return co_await gather_rows(rank.endpoint, on, rank.head_group(), tag, pass.rows.group_parts,
                                 owned);
}

Task<Tensor> to_owners(Rank& rank, Pass& pass, Track& on, Tensor addend, uint8_t phase) {
  const Tag sum_tag = tag_of(on, MessageKind::attention, phase);
  Tensor sum = co_await reduce_scatter_rows(rank.endpoint, on, rank.head_group(), sum_tag,
                                            pass.rows.group_parts, addend);
  if (!pass.rows.replicated) co_return sum;
  const Tag gather_tag = tag_of(on, MessageKind::attention, static_cast<uint8_t>(phase + 1));
  co_return co_await gather_rows(rank.endpoint, on, rank.head_group(), gather_tag,
                                 pass.rows.group_parts, sum);
}

// Each row is sent by the one rank that is responsible for it, to every rank that holds it.
void to_stage(Rank& rank, Pass& pass, Track& on, int stage, const Tensor& x) {
  const Stage& next = rank.plan.stages[stage];
  const Tag tag = tag_of(on, MessageKind::pipeline);
  for (int i = 0; i < static_cast<int>(next.attention.ranks.size()); ++i) {
    const Interval wanted = owned_rows(next, place_of(next.attention, i), pass.batch);
    const Interval rows = overlap(pass.rows.mine, wanted);
    if (rows.empty()) continue;
    Message message;
    message.parts[0] = x.slice_rows(rows.shifted(-pass.rows.owned.begin));
    rank.endpoint.send(rank.global_rank(next.attention.ranks[i]), tag, std::move(message));
  }
}

Task<Tensor> from_stage(Rank& rank, Pass& pass, Track& on, int stage) {
  const Stage& previous = rank.plan.stages[stage];
  const Tag tag = tag_of(on, MessageKind::pipeline);
  Tensor x = on.allocate(pass.rows.owned.size(), rank.model.hidden_size, DType::f32);
  for (int i = 0; i < static_cast<int>(previous.attention.ranks.size()); ++i) {
    const Interval held = responsible_rows(previous, place_of(previous.attention, i), pass.batch);
    const Interval rows = overlap(pass.rows.owned, held);
    if (rows.empty()) continue;
    const Message message =
        co_await rank.endpoint.receive(rank.global_rank(previous.attention.ranks[i]), tag);
    on.run(CopyRows{.from = message.parts[0],
                    .to = x.slice_rows(rows.shifted(-pass.rows.owned.begin))});
  }
  co_return x;
}

}  // namespace tandem
