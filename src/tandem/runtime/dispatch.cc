#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// (row, slot) of the owned rows in order of expert, then row: a counting sort.
void sort_by_expert(std::span<const int32_t> experts, int64_t expert_count,
                    std::vector<int32_t>& starts, std::vector<int32_t>& sorted) {
  starts.assign(expert_count + 1, 0);
  for (const int32_t e : experts)
    if (e >= 0) ++starts[e + 1];
  for (int64_t e = 0; e < expert_count; ++e) starts[e + 1] += starts[e];
  sorted.resize(starts[expert_count]);
  for (size_t i = 0; i < experts.size(); ++i)
    if (experts[i] >= 0) sorted[starts[experts[i]]++] = static_cast<int32_t>(i);
}

}  // namespace

// A token's addends stand in order of its slots (largest weight first), then of an expert's slices,
// then the shared expert: an order that no plan changes. Experts of -1 were dropped.
void plan_dispatch(Rank& rank, Pass& pass, int64_t layer, LayerActivations& a) {
  const ModelConfig& model = rank.model;
  const ExpertPlacement& placement = rank.stage().placement(layer);
  const std::span<const int32_t> experts = rank.device.integers(a.served);
  const int64_t rows = pass.rows.owned.size(), top_k = model.top_k_of(layer);
  const bool shared = model.shared_hidden_of(layer) > 0;
  const auto keys = keys_of(pass.batch, pass.rows.owned);
  Dispatch& d = a.dispatch;
  d.destinations.resize(rank.expert_ranks.size());
  for (auto& destination : d.destinations) destination.clear();

  // Where every rank holds every token, each keeps to the experts it has itself.
  const auto serves = [&](int local) {
    return !pass.rows.replicated || local == rank.role.local_rank;
  };
  const auto replica_of = [&](int32_t expert, int64_t row) -> const ExpertReplica& {
    const auto& replicas = placement[expert];
    return replicas[keys[row] % replicas.size()];
  };

  // Room for each token's terms, so that they can be filled in in the order of experts.
  auto& first_term = rank.scratch_terms;
  first_term.resize(experts.size());
  d.offsets.assign(1, 0);
  int32_t terms = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t slot = 0; slot < top_k; ++slot) {
      const int64_t i = row * top_k + slot;
      first_term[i] = terms;
      if (experts[i] < 0) continue;
      for (const int local : replica_of(experts[i], row).ranks) terms += serves(local);
    }
    terms += shared;
    d.offsets.push_back(terms);
  }
  d.terms.resize(terms);

  auto& message_row = rank.scratch_rows;  // [destination][owned row]: row in the message, or -1
  message_row.assign(d.destinations.size() * rows, -1);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t slot = 0; slot < top_k; ++slot) {
      const int32_t expert = experts[row * top_k + slot];
      if (expert < 0) continue;
      for (const int local : replica_of(expert, row).ranks) {
        if (!serves(local)) continue;
        const int to = rank.expert_index[local];
        int32_t& sent = message_row[to * rows + row];
        if (sent >= 0) continue;
        sent = static_cast<int32_t>(d.destinations[to].rows.size());
        d.destinations[to].rows.push_back(static_cast<int32_t>(row));
      }
    }

  sort_by_expert(experts, model.experts, rank.scratch_starts, rank.scratch_sorted);
  for (const int32_t i : rank.scratch_sorted) {
    const auto row = static_cast<int64_t>(i / top_k);
    const auto slot = static_cast<int32_t>(i % top_k);
    int32_t term = first_term[i];
    for (const int local : replica_of(experts[i], row).ranks) {
      if (!serves(local)) continue;
      const int to = rank.expert_index[local];
      Dispatch::Destination& destination = d.destinations[to];
      d.terms[term++] = {.row = {to, static_cast<int32_t>(destination.pair_count())}, .slot = slot};
      const int64_t batch_row = pass.rows.owned.begin + row;
      destination.pairs.insert(destination.pairs.end(), {message_row[to * rows + row], experts[i],
                                                         static_cast<int32_t>(keys[row] >> 32),
                                                         pass.batch.positions[batch_row]});
    }
  }
  if (shared)
    for (int64_t row = 0; row < rows; ++row)
      d.terms[d.offsets[row + 1] - 1] = {
          .row = {static_cast<int32_t>(d.destinations.size()), static_cast<int32_t>(row)},
          .slot = model.gates_shared_expert(layer) ? static_cast<int32_t>(top_k) : -1};

  auto& counts = rank.expert_tokens;
  const int64_t first = (layer - rank.stage().layers.begin) * model.experts;
  for (int64_t row = pass.rows.mine.begin; row < pass.rows.mine.end; ++row)
    for (int64_t slot = 0; slot < top_k; ++slot) {
      const int32_t expert = experts[(row - pass.rows.owned.begin) * top_k + slot];
      if (expert >= 0) ++counts[first + expert];
    }
}

}  // namespace tandem
