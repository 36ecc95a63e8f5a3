#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// Attention ranks (grid indices) that send rows of this micro-batch to this rank.
void find_sources(Rank& rank, const Pass& pass, std::vector<int>& sources) {
  const Stage& stage = rank.stage();
  sources.clear();
  for (int i = 0; i < static_cast<int>(stage.attention.ranks.size()); ++i) {
    const Interval owned = owned_rows(stage, place_of(stage.attention, i), pass.batch);
    const bool own = stage.attention.ranks[i] == rank.role.local_rank;
    if (!owned.empty() && (own || stage.exchange != Exchange::replicated)) sources.push_back(i);
  }
}

// Joins the pairs of all sources, each sorted by expert, to one list sorted by expert, then source.
void sort_pairs(Rank& rank, const ExpertParameters& w, ExpertActivations& a) {
  a.in.clear(), a.out.clear(), a.keys.clear();
  a.offsets.assign(1, 0);
  std::vector<int64_t>& next = rank.scratch_cursors;
  next.assign(a.pairs.size(), 0);
  for (const int32_t expert : w.experts) {
    for (size_t s = 0; s < a.pairs.size(); ++s) {
      const auto pairs = rank.device.integers(a.pairs[s]);
      for (; next[s] < a.pairs[s].rows; ++next[s]) {
        const int32_t* pair = &pairs[next[s] * Dispatch::pair_words];
        if (pair[1] != expert) break;
        a.in.push_back({static_cast<int32_t>(s), pair[0]});
        a.out.push_back({static_cast<int32_t>(s), static_cast<int32_t>(next[s])});
        a.keys.push_back(mix(token_key(pair[2], pair[3]), static_cast<uint64_t>(expert)));
      }
    }
    a.offsets.push_back(static_cast<int32_t>(a.in.size()));
  }
  for (size_t s = 0; s < a.pairs.size(); ++s)
    TANDEM_CHECK(next[s] == a.pairs[s].rows, "rank {} was sent a row for an expert it has not",
                 rank.endpoint.self());
}

Array<Tensor> rows_for_pairs(Rank& rank, const Track& on, const ExpertActivations& a) {
  Array<Tensor> tensors(&rank.frames());
  for (const Tensor& pairs : a.pairs)
    tensors.push_back(on.allocate(pairs.rows, rank.model.hidden_size, rank.dtype()));
  return tensors;
}

void run_experts(Rank& rank, const Track& on, const ExpertParameters& w, ExpertActivations& a,
                 bool keep, std::span<const Tensor> out) {
  if (a.in.empty()) return;
  const auto pairs = static_cast<int64_t>(a.in.size());
  int64_t features = 0;
  for (const ExpertMatrices& matrices : w.matrices) features = std::max(features, matrices.up.rows);
  a.up = keep ? on.allocate(pairs, features, rank.dtype()) : Tensor{};
  a.gate = keep && w.matrices[0].gate ? on.allocate(pairs, features, rank.dtype()) : Tensor{};
  on.run(Experts{.in = {.sources = a.rows, .rows = a.in},
                 .out = {.sources = out, .rows = a.out},
                 .offsets = a.offsets,
                 .weights = w.matrices,
                 .activation = activation_of(rank.model),
                 .gate = a.gate,
                 .up = a.up,
                 .dropout = rank.dropout(RandomStream::expert_dropout, rank.model.expert_dropout,
                                         on.layer, a.keys)});
}

}  // namespace

Task<> expert_layer(Rank& rank, Pass& pass, Track& on, ExpertActivations& a) {
  const ExpertParameters& w = rank.weights.layer(on.layer).experts;
  const Tag in_tag = tag_of(on, MessageKind::dispatch);
  const Tag out_tag = tag_of(on, MessageKind::combine);
  find_sources(rank, pass, a.sources);
  a.rows.clear(), a.pairs.clear();
  for (const int source : a.sources) {
    const int peer = rank.global_rank(rank.stage().attention.ranks[source]);
    Message message = co_await rank.endpoint.receive(peer, in_tag);
    a.rows.push_back(std::move(message.parts[0]));
    a.pairs.push_back(std::move(message.parts[1]));
  }
  sort_pairs(rank, w, a);
  const Array<Tensor> out = rows_for_pairs(rank, on, a);
  const bool keep = rank.keeps && !rank.command.training.checkpoint_activations;
  run_experts(rank, on, w, a, keep, out);
  for (size_t s = 0; s < a.sources.size(); ++s) {
    if (out[s].empty()) continue;
    Message message;
    message.parts[0] = out[s];
    rank.endpoint.send(rank.global_rank(rank.stage().attention.ranks[a.sources[s]]), out_tag,
                       std::move(message));
  }
}

Task<> expert_layer_backward(Rank& rank, Pass& pass, Track& on, ExpertActivations& a) {
  const ExpertParameters& w = rank.weights.layer(on.layer).experts;
  const ExpertParameters& g = rank.gradients.layer(on.layer).experts;
  const Tag in_tag = tag_of(on, MessageKind::dispatch);
  const Tag out_tag = tag_of(on, MessageKind::combine);
  Array<Tensor> dy(a.sources.size(), &rank.frames());
  for (size_t s = 0; s < a.sources.size(); ++s) {
    if (a.pairs[s].empty()) continue;
    const int peer = rank.global_rank(rank.stage().attention.ranks[a.sources[s]]);
    Message message = co_await rank.endpoint.receive(peer, in_tag);
    dy[s] = std::move(message.parts[0]);
  }
  const Array<Tensor> dx = rows_for_pairs(rank, on, a);
  Turnstile& gate = rank.expert_gates[on.layer - rank.stage().layers.begin];
  co_await gate.wait(pass.turn);
  if (!a.in.empty()) {
    if (!a.up) run_experts(rank, on, w, a, true, dx);  // dx is written over below
    on.run(ExpertsBackward{.in = {.sources = a.rows, .rows = a.in},
                           .dy = {.sources = dy, .rows = a.out},
                           .dx = {.sources = dx, .rows = a.out},
                           .offsets = a.offsets,
                           .weights = w.matrices,
                           .gradients = g.matrices,
                           .activation = activation_of(rank.model),
                           .gate = a.gate,
                           .up = a.up,
                           .dropout = rank.dropout(RandomStream::expert_dropout,
                                                   rank.model.expert_dropout, on.layer, a.keys)});
  }
  gate.pass();
  for (size_t s = 0; s < a.sources.size(); ++s) {
    if (dx[s].empty()) continue;
    Message message;
    message.parts[0] = dx[s];
    rank.endpoint.send(rank.global_rank(rank.stage().attention.ranks[a.sources[s]]), out_tag,
                       std::move(message));
  }
  a.gate = a.up = {};
  a.rows.clear();
}

}  // namespace tandem
