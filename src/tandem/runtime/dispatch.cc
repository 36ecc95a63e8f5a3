#include <utility>

#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Which destinations the rows of an expert go to: one, or one a slice of the replica that serves
// the token. Where every rank holds every token, each keeps to the experts it has itself.
class Targets {
 public:
  Targets(const Rank& rank, const ExpertPlacement& placement, bool own_alone, DispatchScratch& in)
      : replicas_(in.replicas), slices_(in.slices), destinations_(in.destinations) {
    replicas_.assign(1, 0), slices_.assign(1, 0), destinations_.clear();
    for (const auto& replicas : placement) {
      for (const ExpertReplica& replica : replicas) {
        for (const int local : replica.ranks)
          if (!own_alone || local == rank.role.local_rank)
            destinations_.push_back(rank.expert_index[local]);
        slices_.push_back(static_cast<int32_t>(destinations_.size()));
      }
      replicas_.push_back(static_cast<int32_t>(slices_.size()) - 1);
    }
  }

  std::span<const int32_t> of(int32_t expert, uint64_t key) const {
    const int32_t first = replicas_[expert], count = replicas_[expert + 1] - first;
    const int64_t replica = count == 1 ? first : first + static_cast<int64_t>(key % count);
    return part_of<const int32_t>(destinations_, {slices_[replica], slices_[replica + 1]});
  }

 private:
  std::vector<int32_t>& replicas_;  // by expert: the first
  std::vector<int32_t>& slices_;    // by replica: the first
  std::vector<int32_t>& destinations_;
};

}  // namespace

// A token's addends stand in order of its slots (largest weight first), then of an expert's slices,
// then the shared expert: an order that no plan changes. Experts of -1 were dropped.
void plan_dispatch(Rank& rank, Pass& pass, int64_t layer, LayerActivations& a) {
  const ModelConfig& model = rank.model;
  DispatchScratch& scratch = rank.dispatch_scratch;
  const Targets targets(rank, rank.stage().placement(layer), pass.rows.replicated, scratch);
  const std::span<const int32_t> experts = rank.device.integers(a.served);
  const int64_t rows = pass.rows.owned.size(), top_k = model.top_k_of(layer);
  const bool shared = model.shared_hidden_of(layer) > 0;
  const auto keys = keys_of(pass.batch, pass.rows.owned);
  Dispatch& d = a.dispatch;
  d.destinations.resize(rank.expert_ranks.size());
  for (auto& destination : d.destinations) destination.clear();

  // Rows of messages, and room for each token's terms, so that they can be filled in in the order
  // of experts.
  scratch.first_term.resize(experts.size());
  scratch.message_rows.clear();
  scratch.latest.assign(d.destinations.size(), -1);
  scratch.pairs.assign(d.destinations.size(), 0);
  scratch.starts.assign(model.experts + 1, 0);
  d.offsets.assign(1, 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = row * top_k; i < (row + 1) * top_k; ++i) {
      scratch.first_term[i] = -1;
      if (experts[i] < 0) continue;
      const auto to = targets.of(experts[i], keys[row]);
      if (to.empty()) continue;
      scratch.first_term[i] = static_cast<int32_t>(scratch.message_rows.size());
      ++scratch.starts[experts[i] + 1];
      for (const int32_t destination : to) {
        auto& sent = d.destinations[destination].rows;
        if (std::exchange(scratch.latest[destination], static_cast<int32_t>(row)) != row)
          sent.push_back(static_cast<int32_t>(row));
        scratch.message_rows.push_back(static_cast<int32_t>(sent.size()) - 1);
        ++scratch.pairs[destination];
      }
    }
    if (shared) scratch.message_rows.push_back(-1);
    d.offsets.push_back(static_cast<int32_t>(scratch.message_rows.size()));
  }
  d.terms.resize(scratch.message_rows.size());
  for (size_t to = 0; to < d.destinations.size(); ++to)
    d.destinations[to].pairs.reserve(Dispatch::pair_words * scratch.pairs[to]);

  // (row, slot) in order of expert, then row: a counting sort.
  for (int64_t e = 0; e < model.experts; ++e) scratch.starts[e + 1] += scratch.starts[e];
  scratch.sorted.resize(scratch.starts[model.experts]);
  for (size_t i = 0; i < experts.size(); ++i)
    if (scratch.first_term[i] >= 0)
      scratch.sorted[scratch.starts[experts[i]]++] = static_cast<int32_t>(i);
  for (const int32_t i : scratch.sorted) {
    const auto row = static_cast<int64_t>(i / top_k);
    const auto slot = static_cast<int32_t>(i % top_k);
    int32_t term = scratch.first_term[i];
    for (const int32_t to : targets.of(experts[i], keys[row])) {
      Dispatch::Destination& destination = d.destinations[to];
      const int32_t message_row = scratch.message_rows[term];
      d.terms[term++] = {.row = {to, static_cast<int32_t>(destination.pair_count())}, .slot = slot};
      const int64_t batch_row = pass.rows.owned.begin + row;
      destination.pairs.insert(destination.pairs.end(),
                               {message_row, experts[i], static_cast<int32_t>(keys[row] >> 32),
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
