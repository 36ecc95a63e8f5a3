// From one plan to another while the ranks hold what they hold.
#include <map>

#include "tandem/plan/difference.h"
#include "tandem/plan/plan_file.h"
#include "tandem/runtime/steps.h"
#include "tandem/world/engine.h"

namespace tandem {

// From the moment the world has adopted the plan there is no way back: who is lost during the move,
// or finds itself with half of one, begins anew under the new plan.
void Engine::move_to(const Plan& plan) {
  if (plan.ranks() != plan_.ranks())
    throw InputError("plan {} has {} ranks, and ranks that run plan {} are {}", plan.name,
                     plan.ranks(), plan_.name, plan_.ranks());
  validate(plan, model());
  if (!trains_) run_through(with_slots(CommandKind::release));  // all ranks hold what they should
  world_->adopt(plan);
  if (rank_slots_ > 0) rank_slots_ = slots_of_rank(plan, slots_);
  Command command = with_slots(CommandKind::move);
  command.plan = plan_yaml(plan);
  command.moves_weights = !world_->shares_store();
  // Who counts an expert's capacity counts anew, from the first token on.
  const bool replays = rank_slots_ > 0 && drops_tokens();
  if (!replays) command.sequences = cached_sequences();
  try {
    run(command);  // ranks report as what they have been
    plan_ = plan;
    if (replays) replay(std::vector<bool>(plan_.ranks(), true));
  } catch (const PeerLost& error) {
    failure_ = error.what();
    plan_ = plan;
    recover();
    if (trains_) {
      empty_.clear();
      throw StateLost(error.what());
    }
    for (int rank = 0; rank < plan_.ranks(); ++rank) empty_.insert(rank);
  }
}

double Engine::move_bytes(const Plan& plan) const {
  double bytes = 0;
  const auto add = [&](const auto& have, const auto& need, DType dtype, double times) {
    for (const Transfer& t : transfers(have, need))
      if (t.from != t.to)
        bytes += times * static_cast<double>(t.region.elements() * size_of(dtype));
  };
  if (!world_->shares_store())
    add(all_holdings(plan_, model()), all_holdings(plan, model()), store_.dtype(), 1);
  if (trains_) {
    const bool divided = world_->shards_optimizer();
    add(updated_regions(plan_, model(), divided), updated_regions(plan, model(), divided),
        DType::f32, static_cast<double>(optimizer_states(store_.dtype()).size()));
  }
  // Sequences that live in the same place move alike: numbers of a token's K/V, by place.
  std::map<std::array<int, 4>, double> widths;
  for (const SequenceWork& work : cached_sequences()) {
    const SlotPlace from = place_of_slot(plan_, work.slot), to = place_of_slot(plan, work.slot);
    const auto [width, fresh] = widths.try_emplace({from.copy, from.home, to.copy, to.home});
    for (int64_t layer = 0; fresh && layer < model().layers; ++layer)
      for (const CacheTransfer& t : cache_transfers(plan_, plan, model(), work.slot, layer))
        if (t.from != t.to)
          width->second += static_cast<double>(model().cache_width(t.heads.size()));
    bytes += width->second * work.first_position * static_cast<double>(size_of(store_.dtype()));
  }
  return bytes;
}

}  // namespace tandem
