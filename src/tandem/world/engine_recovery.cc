// What an engine does when a rank is lost: the world gives its ranks new seats, and they are given
// what they held.
#include <algorithm>

#include "tandem/plan/mirrors.h"
#include "tandem/world/engine.h"

namespace tandem {

std::vector<Report> Engine::run_through(const Command& command) {
  for (bool lost = false;; lost = true) {
    try {
      if (lost) recover();
      take_in();
      return run(command);
    } catch (const PeerLost& error) {
      failure_ = error.what();  // unless the world recovers
    }
  }
}

// Ranks without anything get what they need for inference.
void Engine::take_in() {
  const auto newcomers = world_->take_in();
  empty_.insert(newcomers.begin(), newcomers.end());
  if (!empty_.empty()) restore();
}

void Engine::recover() {
  const auto seated = world_->recover();
  if (!seated) throw WorldError("{}", failure_);
  failure_.clear();
  empty_.insert(seated->begin(), seated->end());
  // A step that was given up has counted part of its tokens: they are counted from the start.
  for (int rank = 0; rank < plan_.ranks(); ++rank)
    if (drops_tokens() && role_of(plan_, rank).attention) empty_.insert(rank);
  ++recoveries_;
}

std::vector<SequenceWork> Engine::cached_sequences() const {
  std::vector<SequenceWork> sequences;
  for (int32_t slot = 0; slot < std::ssize(history_); ++slot)
    if (!history_[slot].empty())
      sequences.push_back(
          {.slot = slot, .first_position = static_cast<int32_t>(history_[slot].size())});
  return sequences;
}

// Ranks in new seats get weights and K/V.
void Engine::restore() {
  const std::vector<int> ranks(empty_.begin(), empty_.end());
  if (!world_->shares_store())
    run({.kind = CommandKind::take_weights, .ranks = ranks}, weights_for(store_, ranks));
  if (rank_slots_ > 0) {
    Command command = with_slots(CommandKind::restore_cache);
    std::vector<bool> without_cache(plan_.ranks());
    for (const int rank : ranks) {
      if (!role_of(plan_, rank).attention) continue;
      int source = -1;
      for (const int mirror : mirrors_of(plan_, rank))
        if (!drops_tokens() && !empty_.contains(mirror)) source = mirror;
      command.ranks.push_back(rank);
      command.sources.push_back(source);
      without_cache[rank] = source < 0;
    }
    command.sequences = cached_sequences();
    place(command);
    if (!command.ranks.empty()) run(command);
    replay(without_cache);
  }
  empty_.clear();
}

// Sequences whose K/V are lost are run again from their first token. Other ranks get what they have
// already.
void Engine::replay(const std::vector<bool>& without_cache) {
  constexpr int64_t chunk = 512;
  const auto tokens = expert_tokens_;  // counted already
  for (int64_t done = 0;; done += chunk) {
    Command command{.kind = CommandKind::infer};
    for (int32_t slot = 0; slot < std::ssize(history_); ++slot) {
      const auto& history = history_[slot];
      if (std::ssize(history) <= done) continue;
      const int64_t end = std::min<int64_t>(done + chunk, std::ssize(history));
      command.sequences.push_back({.slot = slot,
                                   .first_position = static_cast<int32_t>(done),
                                   .tokens = std::span(history).subspan(done, end - done)});
    }
    place(command);
    std::erase_if(command.sequences, [&](const SequenceWork& work) {
      for (int rank = 0; rank < plan_.ranks(); ++rank)
        if (without_cache[rank] && lives_on(plan_, role_of(plan_, rank), work)) return false;
      return true;
    });
    if (command.sequences.empty()) break;
    run(command);
  }
  expert_tokens_ = tokens;
}

std::vector<Report> Engine::run_or_lose(const Command& command, const Beside& beside) {
  try {
    if (!empty_.empty()) restore();
    return run(command, beside);
  } catch (const PeerLost& error) {
    failure_ = error.what();
  }
  const std::string reason = failure_;
  recover();
  empty_.clear();  // all ranks are given everything
  throw StateLost(reason);
}

}  // namespace tandem
