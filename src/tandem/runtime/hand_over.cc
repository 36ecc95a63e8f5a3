// What a rank holds goes to the controller or comes from it, or from the rank that mirrors its K/V.
// Sender and receiver go through the same list in the same order.
#include <algorithm>

#include "tandem/runtime/optimizer.h"
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

Task<> take(Rank& rank, int peer, Tensor to) {
  const Message message = co_await rank.endpoint.receive(peer, hand_over_tag);
  own_track(rank).run(CopyRows{.from = message.parts[0], .to = to});
}

void give(Rank& rank, int peer, const Tensor& from) {
  Message message;
  message.parts[0] = from;
  rank.endpoint.send(peer, hand_over_tag, std::move(message));
}

}  // namespace

std::vector<PieceState> optimizer_states(DType dtype) {
  std::vector<PieceState> states{PieceState::first_moment, PieceState::second_moment};
  if (dtype != DType::f32) states.push_back(PieceState::master);
  return states;
}

Task<> take_weights(Rank& rank) {
  const int me = rank.endpoint.self();
  if (std::ranges::find(rank.command.ranks, me) != rank.command.ranks.end())
    for (const Region& region : holdings(rank.plan, rank.model, me))
      co_await take(rank, rank.plan.ranks(), rank.store.region(region));
  if (rank.optimizer) rank.optimizer->begin_anew();
}

Task<> take_optimizer(Rank& rank) {
  for (const Optimizer::Piece& piece : rank.optimizer->pieces())
    for (const PieceState state : optimizer_states(rank.dtype()))
      co_await take(rank, rank.plan.ranks(), piece.state(state));
}

Task<> give_pieces(Rank& rank) {
  const Command& command = rank.command;
  if (command.ranks[0] != rank.endpoint.self()) co_return;
  const auto& pieces = rank.optimizer->pieces();
  for (int i = command.first_piece; i < command.end_piece; ++i)
    give(rank, rank.plan.ranks(), pieces[i].state(command.piece_state));
}

// The rank that mirrors a cache has the same slots in it, though not in the same blocks.
Task<> restore_cache(Rank& rank) {
  const Command& command = rank.command;
  for (size_t i = 0; i < command.ranks.size(); ++i) {
    const int to = command.ranks[i], from = command.sources[i];
    if (to == rank.endpoint.self()) rank.make_cache();
    if (from < 0 || (rank.endpoint.self() != to && rank.endpoint.self() != from)) continue;
    for (const SequenceWork& work : command.sequences) {
      if (!lives_on(rank.plan, rank.role, work)) continue;
      if (to == rank.endpoint.self()) rank.cache->reserve(work.slot, work.first_position);
      for (int64_t layer = 0; layer < rank.stage().layers.size(); ++layer)
        for (int64_t done = 0; done < work.first_position; done += kv_block_tokens) {
          const int64_t first = rank.cache->row(work.slot, done);
          const int64_t count = std::min<int64_t>(kv_block_tokens, work.first_position - done);
          const Tensor rows = rank.cache->rows(layer).slice_rows({first, first + count});
          if (from == rank.endpoint.self())
            give(rank, to, rows);
          else
            co_await take(rank, from, rows);
        }
    }
  }
}

}  // namespace tandem
