// Weights and optimizers between the controller and the ranks, wherever those sit.
#include "tandem/runtime/steps.h"
#include "tandem/world/engine.h"

namespace tandem {
namespace {

constexpr int pieces_at_once = 8;  // that the controller holds

Task<> receive_pieces(Endpoint& endpoint, int rank, std::span<const Region> pieces,
                      const Engine::OnPiece& body) {
  for (const Region& region : pieces) {
    const Message message = co_await endpoint.receive(rank, hand_over_tag);
    body(region, message.parts[0]);
  }
}

Task<> send_all(Endpoint&, std::function<void()> send) {
  send();
  co_return;
}

void send_tensor(Endpoint& endpoint, int rank, const Tensor& tensor) {
  Message message;
  message.parts[0] = tensor;
  endpoint.send(rank, hand_over_tag, std::move(message));
}

}  // namespace

void Engine::fetch(PieceState state, const OnPiece& body) {
  const auto regions = updated_regions(plan_, model(), world_->shards_optimizer());
  for (int rank = 0; rank < plan_.ranks(); ++rank) {
    const std::vector<Region>& all = regions[rank];
    for (int first = 0; first < std::ssize(all); first += pieces_at_once) {
      const int end = std::min<int>(first + pieces_at_once, static_cast<int>(all.size()));
      run_or_lose({.kind = CommandKind::give_pieces,
                   .ranks = {rank},
                   .piece_state = state,
                   .first_piece = first,
                   .end_piece = end},
                  [&](Endpoint& endpoint) {
                    return receive_pieces(endpoint, rank,
                                          std::span(all).subspan(first, end - first), body);
                  });
    }
  }
}

Engine::Beside Engine::weights_for(const ParameterStore& from, const std::vector<int>& ranks) {
  return [&](Endpoint& endpoint) {
    return send_all(endpoint, [&] {
      for (const int rank : ranks)
        for (const Region& region : holdings(plan_, model(), rank))
          send_tensor(endpoint, rank, from.region(region));
    });
  };
}

void Engine::send_weights(const ParameterStore& from) {
  std::vector<int> everyone;
  for (int rank = 0; rank < plan_.ranks(); ++rank) everyone.push_back(rank);
  empty_.clear();
  run_or_lose({.kind = CommandKind::take_weights, .ranks = everyone}, weights_for(from, everyone));
}

void Engine::send_optimizer(const StateOf& state_of) {
  const auto regions = updated_regions(plan_, model(), world_->shards_optimizer());
  trains_ = true;
  run_or_lose({.kind = CommandKind::take_optimizer}, [&](Endpoint& endpoint) {
    return send_all(endpoint, [&] {
      for (int rank = 0; rank < plan_.ranks(); ++rank)
        for (const Region& region : regions[rank])
          for (const PieceState state : optimizer_states(store_.dtype()))
            send_tensor(endpoint, rank, state_of(region, state));
    });
  });
}

}  // namespace tandem
