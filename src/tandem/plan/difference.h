// What has to travel when ranks give up one plan for another: everything a rank will need comes
// from itself where it has it, else from one that has.
#pragma once

#include <vector>

#include "tandem/plan/layout.h"

namespace tandem {

struct Transfer {
  Region region;
  int from = 0, to = 0;  // the same: it stays where it is
  friend bool operator==(const Transfer&, const Transfer&) = default;
};

// have[rank] and need[rank]: regions that do not overlap. Each transfer's region lies within one of
// `from`'s and one of `to`'s. In an order that follows from the arguments; those who have the same
// take turns. What is needed must be somewhere.
std::vector<Transfer> transfers(const std::vector<std::vector<Region>>& have,
                                const std::vector<std::vector<Region>>& need);

// Part of the K/V of a sequence in one layer, by K/V heads of the model (latent rows: {0, 1}).
struct CacheTransfer {
  int from = 0, to = 0;
  Interval heads;
  Interval from_heads, to_heads;  // all that the two have in their caches
};
// Of the sequence in a slot, in a layer, for all ranks that need it after `before` gave way to
// `after`.
std::vector<CacheTransfer> cache_transfers(const Plan& before, const Plan& after,
                                           const ModelConfig& model, int slot, int64_t layer);

}  // namespace tandem
