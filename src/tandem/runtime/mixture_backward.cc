#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// One gradient row for each addend of each token, laid out as the outputs were.
void combine_backward(Rank& rank, Track& on, LayerActivations& a, const Tensor& dy,
                      std::vector<Tensor>& gradients, const Tensor& dweights) {
  gradients.clear();
  for (const Tensor& output : a.outputs)
    gradients.push_back(output ? on.allocate(output.rows, output.cols, rank.dtype()) : Tensor{});
  std::vector<RowRef> rows;
  rows.reserve(a.dispatch.terms.size());
  for (const CombineTerm& term : a.dispatch.terms) rows.push_back(term.row);
  if (!dy.empty())
    on.run(CombineBackward{.sources = a.outputs,
                           .terms = a.dispatch.terms,
                           .offsets = a.dispatch.offsets,
                           .weights = a.weights,
                           .dout = dy,
                           .dweights = dweights,
                           .gradient = {.sources = gradients, .rows = rows}});
}

void shared_expert_backward(Rank& rank, Track& on, const AttentionParameters& w,
                            const AttentionParameters& g, LayerActivations& a, const Tensor& dy,
                            const Tensor& dx) {
  const RowsInOrder order(rank, dy.rows);
  const std::array offsets{0, static_cast<int32_t>(dy.rows)};
  on.run(ExpertsBackward{.in = order.of(a.expert_rows),
                         .dy = order.of(dy),
                         .dx = order.of(dx),
                         .offsets = offsets,
                         .weights = {&w.shared, 1},
                         .gradients = {&g.shared, 1},
                         .activation = activation_of(rank.model),
                         .gate = a.shared_gate,
                         .up = a.shared_up});
}

// Sum of the gradients that came back for each token, in the order of its addends.
Tensor sum_rows(Track& on, const LayerActivations& a, std::span<const Tensor> gradients) {
  Tensor sum = on.allocate(a.expert_rows.rows, a.expert_rows.cols, DType::f32);
  std::vector<CombineTerm> terms = a.dispatch.terms;
  for (CombineTerm& term : terms) term.slot = -1;
  if (!sum.empty())
    on.run(Combine{.sources = gradients,
                   .terms = terms,
                   .offsets = a.dispatch.offsets,
                   .weights = a.weights,
                   .out = sum});
  return sum;
}

void router_backward(Rank& rank, Pass& pass, Track& on, LayerActivations& a, const Tensor& dweights,
                     const Tensor& drows) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  const AttentionParameters& g = rank.gradients.layer(on.layer).attention;
  const Tensor balance = balance_factors(rank, pass, on, a);
  const auto z_scale = static_cast<float>(rank.model.z_loss / rank.batch_tokens);
  Tensor dlogits = on.allocate(a.probabilities.rows, a.probabilities.cols, DType::f32);
  on.run(RouteBackward{.probabilities = a.probabilities,
                       .logsumexp = a.router_logsumexp,
                       .experts = a.experts,
                       .dweights = dweights.slice_cols({0, rank.model.top_k}),
                       .dlogits = dlogits,
                       .balance = balance,
                       .row_group = a.row_group,
                       .z_scale = z_scale,
                       .router = router_of(rank.model)});
  const Interval mine = pass.rows.mine.shifted(-pass.rows.owned.begin);
  const auto logits_backward = [&](const Tensor& d, const Tensor& weight, const Tensor& dweight) {
    const Tensor dy = as_type(on, d, rank.dtype());
    on.run(LinearInputGradient{.dy = dy, .weight = weight, .dx = drows, .accumulate = true});
    if (!mine.empty())
      on.run(LinearWeightGradient{
          .dy = dy.slice_rows(mine), .x = a.expert_rows.slice_rows(mine), .dweight = dweight});
  };
  logits_backward(dlogits, w.router, g.router);
  if (rank.model.gates_shared_expert(on.layer)) {
    const Interval gate{rank.model.top_k, a.weights.cols};
    const Tensor dgate = on.allocate(dlogits.rows, 1, DType::f32);
    on.run(SigmoidBackward{
        .y = a.weights.slice_cols(gate), .dy = dweights.slice_cols(gate), .dx = dgate});
    logits_backward(dgate, w.shared_router, g.shared_router);
  }
  if (mine.empty()) return;

  Tensor losses = on.allocate(1, 2, DType::f32);
  on.run(RouterLoss{.probabilities = a.probabilities,
                    .logsumexp = a.router_logsumexp,
                    .balance = balance,
                    .out = losses,
                    .row_group = a.row_group,
                    .rows = mine});
  pass.balance_loss += rank.device.floats(losses)[0];
  pass.z_loss += rank.device.floats(losses)[1] * z_scale;
}

}  // namespace

Task<> mixture_backward(Rank& rank, Pass& pass, Track& on, LayerActivations& a, Tensor dx) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  const AttentionParameters& g = rank.gradients.layer(on.layer).attention;
  Tensor dy = on.allocate(dx.rows, dx.cols, DType::f32);
  if (!dx.empty())
    on.run(ResidualBackward{
        .dresidual = dx,
        .dy = dy,
        .dropout = rank.dropout(RandomStream::hidden_dropout, rank.model.hidden_dropout,
                                2 * on.layer + 1, keys_of(pass.batch, pass.rows.owned))});
  Tensor dweights = on.allocate(dx.rows, a.weights.cols, DType::f32);
  std::vector<Tensor> gradients;
  combine_backward(rank, on, a, dy, gradients, dweights);

  const Tag out_tag = tag_of(on, MessageKind::dispatch);
  const Tag in_tag = tag_of(on, MessageKind::combine);
  for (size_t i = 0; i < rank.expert_ranks.size(); ++i) {
    if (a.dispatch.destinations[i].pairs.empty()) continue;
    Message message;
    message.parts[0] = gradients[i];
    rank.endpoint.send(rank.expert_ranks[i], out_tag, std::move(message));
  }
  if (pass.rows.replicated && dweights.cols > 0)
    dweights = co_await to_owners(rank, pass, on, dweights, 6);
  for (size_t i = 0; i < rank.expert_ranks.size(); ++i) {
    if (a.dispatch.destinations[i].pairs.empty()) continue;
    Message message = co_await rank.endpoint.receive(rank.expert_ranks[i], in_tag);
    gradients[i] = std::move(message.parts[0]);
  }

  Turnstile& gate = rank.mixture_gates[on.layer - rank.stage().layers.begin];
  co_await gate.wait(pass.turn);
  if (rank.model.shared_hidden_of(on.layer) > 0 && !dx.empty()) {
    Tensor dshared = on.allocate(dx.rows, dx.cols, rank.dtype());
    shared_expert_backward(rank, on, w, g, a, gradients.back(), dshared);
    gradients.back() = dshared;
  }
  Tensor drows = sum_rows(on, a, gradients);
  if (pass.rows.replicated) drows = co_await to_owners(rank, pass, on, drows, 8);
  if (!dx.empty()) {
    if (w.router) router_backward(rank, pass, on, a, dweights, drows);
    on.run(NormBackward{.kind = norm_kind(rank.model),
                        .x = a.x_middle,
                        .weight = w.expert_norm,
                        .statistics = a.expert_statistics,
                        .dy = drows,
                        .dx = dx,
                        .dweight = g.expert_norm,
                        .dbias = g.expert_norm_bias,
                        .weight_rows = pass.rows.mine.shifted(-pass.rows.owned.begin)});
  }
  gate.pass();
}

}  // namespace tandem
