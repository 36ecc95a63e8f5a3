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

// Joins the pairs of some sources, each sorted by expert, to one list sorted by expert, then
// source.
void sort_pairs(Rank& rank, const ExpertParameters& w, ExpertActivations& a,
                const Interval& sources) {
  a.in.clear(), a.out.clear(), a.keys.clear();
  a.offsets.assign(1, 0);
  std::vector<int64_t>& next = rank.scratch_cursors;
  next.assign(a.pairs.size(), 0);
  for (const int32_t expert : w.experts) {
    for (int64_t s = sources.begin; s < sources.end; ++s) {
      const auto pairs = rank.device.integers(a.pairs[s]);
      for (; next[s] < a.pairs[s].rows; ++next[s]) {
        const int32_t* pair = &pairs[next[s] * Dispatch::pair_words];
        if (pair[1] != expert) break;
        const auto source = static_cast<int32_t>(s - sources.begin);
        a.in.push_back({source, pair[0]});
        a.out.push_back({source, static_cast<int32_t>(next[s])});
        a.keys.push_back(mix(token_key(pair[2], pair[3]), static_cast<uint64_t>(expert)));
      }
    }
    a.offsets.push_back(static_cast<int32_t>(a.in.size()));
  }
  for (int64_t s = sources.begin; s < sources.end; ++s)
    TANDEM_CHECK(next[s] == a.pairs[s].rows, "rank {} was sent a row for an expert it has not",
                 rank.endpoint.self());
}

// A row for each pair of some sources, in their order.
Array<Tensor> rows_for_pairs(Rank& rank, const Track& on, const ExpertActivations& a,
                             const Interval& sources) {
  Array<Tensor> tensors(&rank.frames());
  for (const Tensor& pairs : part_of(std::span(a.pairs), sources))
    tensors.push_back(on.allocate(pairs.rows, rank.model.hidden_size, rank.dtype()));
  return tensors;
}

void run_experts(Rank& rank, const Track& on, const ExpertParameters& w, ExpertActivations& a,
                 bool keep, std::span<const Tensor> rows, std::span<const Tensor> out) {
  if (a.in.empty()) return;
  const auto pairs = static_cast<int64_t>(a.in.size());
  int64_t features = 0;
  for (const ExpertMatrices& matrices : w.matrices) features = std::max(features, matrices.up.rows);
  a.up = keep ? on.allocate(pairs, features, rank.dtype()) : Tensor{};
  a.gate = keep && w.matrices[0].gate ? on.allocate(pairs, features, rank.dtype()) : Tensor{};
  on.run(Experts{.in = {.sources = rows, .rows = a.in},
                 .out = {.sources = out, .rows = a.out},
                 .offsets = a.offsets,
                 .weights = w.matrices,
                 .activation = activation_of(rank.model),
                 .gate = a.gate,
                 .up = a.up,
                 .dropout = rank.dropout(RandomStream::expert_dropout, rank.model.expert_dropout,
                                         on.layer, a.keys)});
}

// The rows of some sources together: receives them, runs the experts, answers.
Task<> serve_sources(Rank& rank, const Track& on, ExpertActivations& a, Interval sources) {
  const ExpertParameters& w = rank.weights.layer(on.layer).experts;
  const auto peer = [&](int64_t s) {
    return rank.global_rank(rank.stage().attention.ranks[a.sources[s]]);
  };
  for (int64_t s = sources.begin; s < sources.end; ++s) {
    Message message = co_await rank.endpoint.receive(peer(s), tag_of(on, MessageKind::dispatch));
    a.rows[s] = std::move(message.parts[0]);
    a.pairs[s] = std::move(message.parts[1]);
  }
  sort_pairs(rank, w, a, sources);
  const Array<Tensor> out = rows_for_pairs(rank, on, a, sources);
  const bool keep = rank.keeps && !rank.command.training.checkpoint_activations;
  run_experts(rank, on, w, a, keep, part_of<const Tensor>(a.rows, sources), out);
  for (int64_t s = sources.begin; s < sources.end; ++s) {
    const Tensor& result = out[s - sources.begin];
    if (result.empty()) continue;
    Message message;
    message.parts[0] = result;
    rank.endpoint.send(peer(s), tag_of(on, MessageKind::combine), std::move(message));
  }
}

}  // namespace

Task<> expert_layer(Rank& rank, Pass& pass, Track& on, ExpertActivations& a) {
  find_sources(rank, pass, a.sources);
  const auto count = static_cast<int64_t>(a.sources.size());
  a.rows.assign(count, {}), a.pairs.assign(count, {});
  if (!rank.plan.partial_batches || rank.keeps)
    co_return co_await serve_sources(rank, on, a, {0, count});
  Array<Task<>> each(&rank.frames());
  for (int64_t s = 0; s < count; ++s) each.push_back(serve_sources(rank, on, a, {s, s + 1}));
  const Array<int16_t> micro_batches(each.size(), on.micro_batch(), &rank.frames());
  co_await rank.endpoint.together(each, micro_batches);
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
  const Interval all{0, static_cast<int64_t>(a.sources.size())};
  const Array<Tensor> dx = rows_for_pairs(rank, on, a, all);
  Turnstile& gate = rank.expert_gates[on.layer - rank.stage().layers.begin];
  co_await gate.wait(pass.turn);
  if (!a.in.empty()) {
    if (!a.up) run_experts(rank, on, w, a, true, a.rows, dx);  // dx is written over below
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
