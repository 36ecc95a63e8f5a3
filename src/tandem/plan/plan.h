// A plan says which rank does what. Every strategy is a plan; nothing else in Tandem asks for the
// strategy's name. Plain data: validate() before use, print and parse as YAML or shorthand.
#pragma once

#include <string>
#include <vector>

#include "tandem/base/interval.h"
#include "tandem/model/config.h"

namespace tandem {

// How the ranks of one attention grid come back together after attention.
enum class Exchange : uint8_t {
  heads,       // a token's owner gathers its head outputs and applies the whole output projection
  sums,        // partial output projections are reduce-scattered to the owners
  replicated,  // partial output projections are all-reduced; every rank holds every token
};

// Ranks numbered [(batch * sequence_shards + sequence) * groups + group].
struct AttentionGrid {
  std::vector<int> heads;   // of each head group, in order; they sum up to the model's heads
  int batch_shards = 1;     // each has its own sequences and K/V
  int sequence_shards = 1;  // share the rows of the same sequences, mirror their K/V
  std::vector<int> ranks;

  int groups() const { return static_cast<int>(heads.size()); }
  int rank(int batch, int sequence, int group) const {
    return ranks[(batch * sequence_shards + sequence) * groups() + group];
  }
  Interval head_range(int group) const;
  friend bool operator==(const AttentionGrid&, const AttentionGrid&) = default;
};

// One full set of an expert's weights: on one rank, or split by hidden features over several.
struct ExpertReplica {
  std::vector<int> ranks;
  friend bool operator==(const ExpertReplica&, const ExpertReplica&) = default;
};
using ExpertPlacement = std::vector<std::vector<ExpertReplica>>;  // [expert][replica]

struct Stage {
  Interval layers;
  Exchange exchange = Exchange::heads;
  AttentionGrid attention;
  std::vector<ExpertPlacement> experts;  // one for all layers, or one a layer

  const ExpertPlacement& placement(int64_t layer) const {
    return experts[experts.size() == 1 ? 0 : layer - layers.begin];
  }
  friend bool operator==(const Stage&, const Stage&) = default;
};

struct Plan {
  std::string name;
  int copies = 1;         // replicas of everything, each with its own sequences
  int micro_batches = 1;  // in flight at once; one number, since rows pass whole through all stages
  // Inference: an expert rank starts on the rows of the first attention rank it hears from, and
  // answers each on its own; else it waits for all, and reads its weights once.
  bool partial_batches = false;
  std::vector<Stage> stages;  // ranks are numbered from 0 within a copy

  int ranks_per_copy() const;
  int ranks() const { return copies * ranks_per_copy(); }
  // Most batch shards of any stage: sequences are dealt to that many homes (see home_shard).
  int homes() const;
  friend bool operator==(const Plan&, const Plan&) = default;
};

// The batch shard of `stage` in which sequences of a home live.
inline int home_shard(int home, int homes, const Stage& stage) {
  return home * stage.attention.batch_shards / homes;
}

// Where the sequence of a slot lives, as long as it lives.
struct SlotPlace {
  int copy = 0, home = 0;
};
inline SlotPlace place_of_slot(const Plan& plan, int slot) {
  const int place = slot % (plan.copies * plan.homes());
  return {place / plan.homes(), place % plan.homes()};
}

// How many of so many slots are at each home of each copy, at most.
int64_t slots_of_home(const Plan& plan, int64_t slots);
// How many of them a rank has room for.
int64_t slots_of_rank(const Plan& plan, int64_t slots);

// Where a rank stands in the attention grid of a stage.
struct AttentionPlace {
  int batch = 0, sequence = 0, group = 0;
  int index = 0;  // in AttentionGrid::ranks
};

AttentionPlace place_of(const AttentionGrid& grid, int index);

// A rank's part in a plan. Ranks of a copy are shifted by copy * ranks_per_copy().
struct Role {
  int copy = 0;
  int stage = 0;
  int local_rank = 0;  // number within the copy
  bool attention = false;
  bool expert = false;
  AttentionPlace place;  // where attention is true
};
Role role_of(const Plan& plan, int rank);

// Throws InputError naming the stage, and the rank, head or expert that does not fit.
void validate(const Plan& plan, const ModelConfig& model);

}  // namespace tandem
