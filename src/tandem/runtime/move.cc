// A rank takes up its part in another plan: a successor is made, and what it needs and did not have
// comes from the ranks that have had it. All go through the same lists in the same order.
#include <algorithm>

#include "tandem/plan/difference.h"
#include "tandem/plan/plan_file.h"
#include "tandem/runtime/optimizer.h"
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// A rank before and after, as far as moving goes.
class Mover {
 public:
  Mover(Rank& before, Rank& after) : before_(before), after_(after), track_(own_track(before)) {}

  Task<> move_weights();
  Task<> move_optimizer();
  Task<> move_cache();
  std::pmr::memory_resource& frames() { return before_.frames(); }

 private:
  int self() const { return before_.endpoint.self(); }
  // What `from` finds goes from one rank to another, or, within one, to where `to` says. Whether it
  // is yet to be received: that is awaited by the caller itself, since a coroutine for each piece
  // would be resumed out of the one before it, deeper and deeper.
  template <class From, class To>
  bool begin(int sender, int receiver, const From& from, const To& to);
  template <class To>
  void end(const Message& message, const To& to) const;

  Rank& before_;
  Rank& after_;
  Track track_;
};

template <class From, class To>
bool Mover::begin(int sender, int receiver, const From& from, const To& to) {
  if (sender != self()) return receiver == self();
  Message message;
  from(message);
  if (receiver == self())
    end(message, to);
  else
    before_.endpoint.send(receiver, hand_over_tag, std::move(message));
  return false;
}

template <class To>
void Mover::end(const Message& message, const To& to) const {
  Message place;
  to(place);
  for (size_t part = 0; part < message.parts.size(); ++part)
    if (!place.parts[part].empty())
      track_.run(CopyRows{.from = message.parts[part], .to = place.parts[part]});
}

Task<> Mover::move_weights() {
  const auto weight_of = [&](const Region& region) {
    return [&, region](Message& message) { message.parts[0] = before_.store.region(region); };
  };
  for (const Transfer& t : transfers(all_holdings(before_.plan, before_.model),
                                     all_holdings(after_.plan, after_.model)))
    if (const auto weight = weight_of(t.region);
        t.from != t.to && begin(t.from, t.to, weight, weight))
      end(co_await before_.endpoint.receive(t.from, hand_over_tag), weight);
}

Tensor state_of(Rank& rank, const Region& region, PieceState state) {
  for (const Optimizer::Piece& piece : rank.optimizer->pieces())
    if (piece.region.contains(region)) return part_of(piece.state(state), piece.region, region);
  TANDEM_CHECK(false, "rank {} does not update a region of parameter kind {}", rank.endpoint.self(),
               static_cast<int>(region.id.kind));
}

Task<> Mover::move_optimizer() {
  const bool divided = before_.settings.shard_optimizer;
  const auto have = updated_regions(before_.plan, before_.model, divided);
  const auto need = updated_regions(after_.plan, after_.model, divided);
  for (const Transfer& t : transfers(have, need))
    for (const PieceState state : optimizer_states(before_.dtype())) {
      const auto from = [&](Message& m) { m.parts[0] = state_of(before_, t.region, state); };
      const auto to = [&](Message& m) { m.parts[0] = state_of(after_, t.region, state); };
      if (begin(t.from, t.to, from, to))
        end(co_await before_.endpoint.receive(t.from, hand_over_tag), to);
    }
}

// Keys and values of some heads, of a block of a sequence, in the cache of one that has `all`.
void put_block(Rank& rank, const Interval& some, const Interval& all, int32_t slot, int64_t layer,
               const Interval& positions, Message& message) {
  const int64_t first = rank.cache->row(slot, positions.begin);
  const Tensor rows = rank.cache->rows(layer - rank.stage().layers.begin)
                          .slice_rows({first, first + positions.size()});
  if (rank.model.latent_attention()) {
    message.parts[0] = rows;
    return;
  }
  const auto columns = [&](int64_t begin, int64_t width) {
    return rows.slice_cols(
        {begin + (some.begin - all.begin) * width, begin + (some.end - all.begin) * width});
  };
  message.parts[0] = columns(0, rank.model.key_dim());
  message.parts[1] = columns(rank.value_columns.begin, rank.model.attended_dim());
}

Task<> Mover::move_cache() {
  const Command& command = before_.command;
  for (const SequenceWork& work : command.sequences) {
    SequenceWork moved = work;
    const SlotPlace place = place_of_slot(after_.plan, work.slot);
    moved.copy = place.copy, moved.home = place.home;
    if (lives_on(after_.plan, after_.role, moved))
      after_.cache->reserve(work.slot, work.first_position);
    for (int64_t layer = 0; layer < before_.model.layers; ++layer)
      for (const CacheTransfer& t :
           cache_transfers(before_.plan, after_.plan, before_.model, work.slot, layer))
        for (int64_t done = 0; done < work.first_position; done += kv_block_tokens) {
          const Interval rows{done, std::min<int64_t>(done + kv_block_tokens, work.first_position)};
          const auto from = [&](Message& message) {
            put_block(before_, t.heads, t.from_heads, work.slot, layer, rows, message);
          };
          const auto to = [&](Message& message) {
            put_block(after_, t.heads, t.to_heads, work.slot, layer, rows, message);
          };
          if (begin(t.from, t.to, from, to))
            end(co_await before_.endpoint.receive(t.from, hand_over_tag), to);
        }
  }
}

}  // namespace

Task<> move_to_plan(Rank& rank) {
  const Command& command = rank.command;
  Rank::Settings settings = rank.settings;
  settings.shards = nullptr;  // those are of the old plan
  auto next = std::make_unique<Rank>(
      std::make_shared<const Plan>(parse_plan(command.plan, "the plan that was sent")),
      rank.endpoint.self(), rank.store, rank.device, rank.transport(), rank.recorder, settings,
      &rank);
  Mover mover(rank, *next);
  if (command.moves_weights) co_await mover.move_weights();
  if (rank.optimizer) co_await mover.move_optimizer();
  next->plan_cache(command.slots, command.tokens_per_slot);
  if (command.slots > 0 && next->role.attention) next->make_cache();
  co_await mover.move_cache();
  rank.successor = std::move(next);
}

}  // namespace tandem
