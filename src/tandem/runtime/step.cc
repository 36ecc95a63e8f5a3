#include <algorithm>

#include "tandem/runtime/optimizer.h"
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

using Walk = Task<> (*)(Rank&, Pass&, Track&);

// Lets every micro-batch walk through the stage, on both sides of the rank, side by side.
Task<> walk(Rank& rank, Walk attention, Walk expert) {
  const auto count = rank.passes.size();
  Array<Track> tracks(&rank.frames());
  tracks.reserve(2 * count);
  Array<Task<>> tasks(&rank.frames());
  Array<int16_t> micro_batches(&rank.frames());
  const auto add = [&](Walk side, Lane lane, Pass& pass) {
    Track& on = tracks.emplace_back(rank.device, rank.recorder, lane, pass.batch.index);
    tasks.push_back(side(rank, pass, on));
    micro_batches.push_back(pass.batch.index);
  };
  for (Pass& pass : rank.passes) {
    if (rank.role.attention) add(attention, Lane::attention, pass);
    if (rank.role.expert) add(expert, Lane::expert, pass);
  }
  co_await rank.endpoint.together(tasks, micro_batches);
}

void build_passes(Rank& rank, int group) {
  rank.passes.resize(rank.plan.micro_batches);
  int16_t turn = 0;
  for (int m = 0; m < rank.plan.micro_batches; ++m) {
    Pass& pass = rank.passes[m];
    // A step that was given up has left something.
    pass.loss_sum = pass.token_weight = pass.balance_loss = pass.z_loss = 0;
    pass.batch.build(rank.command, rank.plan, rank.role.copy, group, m);
    if (rank.role.attention)
      pass.rows.build(rank.stage(), rank.role.place,
                      pass.batch.shard_rows(rank.stage(), rank.role.place.batch));
    const size_t kept = rank.keeps ? rank.stage().layers.size() : 1;
    pass.layers.resize(kept);
    pass.experts.resize(kept);
    pass.turn = pass.empty() ? turn : turn++;
  }
  rank.turns = turn;
}

void open_gates(Rank& rank) {
  const size_t layers = rank.stage().layers.size();
  for (auto* gates : {&rank.attention_gates, &rank.mixture_gates, &rank.expert_gates}) {
    gates->clear();
    for (size_t i = 0; i < layers; ++i) gates->emplace_back(rank.endpoint);
  }
  rank.vocabulary_gate = std::make_unique<Turnstile>(rank.endpoint);
}

// Tokens on each expert over the global batch: whoever is responsible for a row has counted it.
Task<> count_batch(Rank& rank) {
  Track on(rank.device, rank.recorder, Lane::attention);
  std::vector<float> counts(rank.stage().layers.size() * rank.model.experts);
  for (const Pass& pass : rank.passes)
    for (size_t layer = 0; layer < pass.layers.size(); ++layer) {
      const LayerActivations& a = pass.layers[layer];
      if (!a.experts) continue;
      const auto experts = rank.device.integers(a.experts);
      for (int64_t row = pass.rows.mine.begin; row < pass.rows.mine.end; ++row)
        for (int64_t slot = 0; slot < a.experts.cols; ++slot) {
          const int64_t i = (row - pass.rows.owned.begin) * a.experts.cols + slot;
          if (pass.batch.weights[row] > 0) counts[layer * rank.model.experts + experts[i]] += 1;
        }
    }
  std::vector<int> ranks;
  for (int copy = 0; copy < rank.plan.copies; ++copy)
    for (const int local : rank.stage().attention.ranks)
      ranks.push_back(copy * rank.plan.ranks_per_copy() + local);
  const auto me = std::ranges::find(ranks, rank.endpoint.self()) - ranks.begin();
  const Group group{ranks, static_cast<int>(me)};
  const auto width = static_cast<int64_t>(counts.size());
  std::vector<Interval> parts;
  for (int64_t i = 0; i < group.size(); ++i) parts.push_back({i, i + 1});
  Tensor mine = rank.device.upload(counts, 1, width);
  const Tag tag = tag_of(on, MessageKind::gradient, 1);
  const Tensor all = co_await gather_rows(rank.endpoint, on, group, tag, parts, mine);
  const auto values = rank.device.floats(all);
  rank.batch_counts.resize(counts.size());
  for (size_t i = 0; i < values.size(); ++i)
    rank.batch_counts[i % counts.size()] += static_cast<int64_t>(values[i]);
}

void report_losses(Rank& rank) {
  for (const Pass& pass : rank.passes) {
    rank.report.loss_sum += pass.loss_sum;
    rank.report.token_weight += pass.token_weight;
    rank.report.balance_loss += pass.balance_loss;
    rank.report.z_loss += pass.z_loss;
  }
  rank.passes.clear();
}

bool counts_batch(const ModelConfig& model) {
  return model.router_bias || (model.balance_loss > 0 && !model.balance_per_sequence);
}

void count_tokens(Rank& rank) {
  rank.batch_tokens = 0;
  for (const SequenceWork& work : rank.command.sequences)
    for (const float weight : work.weights) rank.batch_tokens += weight > 0;
}

}  // namespace

Task<> infer(Rank& rank) {
  build_passes(rank, 0);
  co_await walk(rank, attention_forward, expert_forward);
}

// Micro-batches of a group are in flight together; groups follow each other and their gradients add
// up in order.
Task<> train(Rank& rank) {
  const bool learns = rank.command.kind != CommandKind::evaluate;
  rank.keeps = rank.masks = learns;
  count_tokens(rank);
  if (learns) rank.optimizer->zero_gradients();
  std::ranges::fill(rank.batch_counts, 0);
  for (int group = 0; group < rank.command.training.groups; ++group) {
    build_passes(rank, group);
    co_await walk(rank, attention_forward, expert_forward);
    if (!learns) {
      report_losses(rank);
      continue;
    }
    if (rank.role.attention && counts_batch(rank.model)) co_await count_batch(rank);
    open_gates(rank);
    co_await walk(rank, attention_backward, expert_backward);
    report_losses(rank);
  }
  if (learns) co_await rank.optimizer->reduce();
  if (rank.command.kind == CommandKind::train) co_await rank.optimizer->step();
  rank.keeps = rank.masks = false;
}

}  // namespace tandem
