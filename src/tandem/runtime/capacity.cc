#include <algorithm>
#include <cmath>

#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Tokens that an expert takes of one sequence; 0 where there is no limit, or the sequence cannot
// have more. A factor needs a length to be a factor of, so it binds where whole sequences are
// worked on: in training and evaluation.
int64_t capacity_of(const Rank& rank, const BatchSequence& sequence) {
  const ModelConfig& model = rank.model;
  const int64_t most = rank.cached ? rank.tokens_per_slot() : sequence.rows.size();
  int64_t capacity = model.expert_capacity;
  if (capacity == 0 && !rank.cached)
    capacity = static_cast<int64_t>(
        std::ceil(model.capacity_factor * static_cast<double>(model.top_k * most) /
                  static_cast<double>(model.experts)));
  return capacity < most ? capacity : 0;
}

bool limits(const Rank& rank, const Pass& pass) {
  return std::ranges::any_of(pass.batch.sequences, [&](const BatchSequence& sequence) {
    return pass.rows.shard.contains(sequence.rows) && capacity_of(rank, sequence) > 0;
  });
}

// Counts of a sequence so far: a cached sequence comes in pieces.
int32_t* used_counts(Rank& rank, const BatchSequence& sequence, int64_t layer_in_stage,
                     std::vector<int32_t>& fresh) {
  const auto experts = static_cast<size_t>(rank.model.experts);
  if (!rank.cached) {
    fresh.assign(experts, 0);
    return fresh.data();
  }
  std::vector<int32_t>& counts = rank.capacity_used[sequence.slot];
  if (counts.empty()) counts.resize(rank.stage().layers.size() * experts);
  int32_t* used = &counts[layer_in_stage * experts];
  if (sequence.first_position == 0) std::fill_n(used, experts, 0);
  return used;
}

// The auxiliary losses are of rows that count.
void group_rows(const Pass& pass, LayerActivations& a) {
  a.row_group.assign(pass.rows.owned.size(), -1);
  int32_t group = 0;
  for (const BatchSequence& sequence : pass.batch.sequences) {
    if (!pass.rows.shard.contains(sequence.rows)) continue;
    const Interval owned = overlap(sequence.rows, pass.rows.owned);
    for (int64_t row = owned.begin; row < owned.end; ++row)
      if (pass.batch.weights[row] > 0) a.row_group[row - pass.rows.owned.begin] = group;
    ++group;
  }
}

}  // namespace

// Walks through the routing of every sequence of the shard by position, so that what is dropped,
// and what the balance loss counts, does not depend on how the rows are divided.
Task<> count_routing(Rank& rank, Pass& pass, Track& on, LayerActivations& a) {
  const ModelConfig& model = rank.model;
  const bool balance = rank.keeps && model.balance_loss > 0;
  if (!model.has_experts(on.layer)) co_return;
  if (rank.keeps) group_rows(pass, a);
  const bool limited = limits(rank, pass);
  if ((!balance && !limited) || pass.rows.shard.empty()) co_return;
  const Tensor mine = a.experts.slice_rows(pass.rows.mine.shifted(-pass.rows.owned.begin));
  const Tag tag = tag_of(on, MessageKind::attention, 5);
  const Tensor all =
      co_await gather_rows(rank.endpoint, on, rank.shard_group(), tag, pass.rows.owner_parts, mine);
  const std::span<const int32_t> experts = rank.device.integers(all);
  const std::span<const int32_t> own = rank.device.integers(a.experts);
  std::vector<int32_t> served(own.begin(), own.end()), fresh;
  a.sequence_counts.clear();

  for (const BatchSequence& sequence : pass.batch.sequences) {
    if (!pass.rows.shard.contains(sequence.rows)) continue;
    const int64_t capacity = capacity_of(rank, sequence);
    int32_t* used = used_counts(rank, sequence, on.layer - rank.stage().layers.begin, fresh);
    const size_t first_count = a.sequence_counts.size();
    a.sequence_counts.resize(first_count + model.experts);
    for (int64_t row = sequence.rows.begin; row < sequence.rows.end; ++row) {
      const bool owned = pass.rows.owned.contains(row);
      const bool counted = pass.batch.weights.empty() || pass.batch.weights[row] > 0;
      for (int64_t slot = 0; slot < model.top_k; ++slot) {
        const int32_t e = experts[(row - pass.rows.shard.begin) * model.top_k + slot];
        if (counted) ++a.sequence_counts[first_count + e];
        if (capacity > 0 && ++used[e] > capacity && owned)
          served[(row - pass.rows.owned.begin) * model.top_k + slot] = -1;
      }
    }
  }
  if (limited) a.served = rank.device.upload(served, a.experts.rows, model.top_k);
}

// d loss / d probabilities of a row, for each sequence of the shard: alpha E f_e / (k T) /
// sequences, where f_e counts the sequence's tokens on expert e (DeepSeek-V2, section 2.2.3); or
// the same with the whole batch as one sequence.
Tensor balance_factors(Rank& rank, const Pass& pass, Track& on, const LayerActivations& a) {
  const ModelConfig& model = rank.model;
  if (model.balance_loss <= 0) return {};
  const int64_t experts = model.experts;
  const auto groups = static_cast<int64_t>(a.sequence_counts.size()) / experts;
  std::vector<float> factors(groups * experts, 0);
  const auto layer = on.layer - rank.stage().layers.begin;
  int64_t group = 0;
  for (const BatchSequence& sequence : pass.batch.sequences) {
    if (!pass.rows.shard.contains(sequence.rows)) continue;
    double tokens = 0;
    for (int64_t row = sequence.rows.begin; row < sequence.rows.end; ++row)
      tokens += pass.batch.weights[row] > 0;
    double sequences = static_cast<double>(rank.command.sequences.size());
    if (!model.balance_per_sequence) tokens = rank.batch_tokens, sequences = 1;
    for (int64_t e = 0; e < experts && tokens > 0; ++e) {
      const double count = model.balance_per_sequence
                               ? a.sequence_counts[group * experts + e]
                               : static_cast<double>(rank.batch_counts[layer * experts + e]);
      factors[group * experts + e] =
          static_cast<float>(model.balance_loss * static_cast<double>(experts) * count /
                             (static_cast<double>(model.top_k) * tokens * tokens * sequences));
    }
    ++group;
  }
  return rank.device.upload(factors, groups, experts);
}

}  // namespace tandem
