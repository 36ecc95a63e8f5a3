// The layers of a stage, for one micro-batch: the loop that reads like the model.
#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

// The residual stream before a branch. It is added to in place, so a copy is kept where needed.
Tensor snapshot(const Rank& rank, const Track& on, const Tensor& x) {
  if (!rank.keeps || x.empty()) return x;
  Tensor copy = on.allocate(x.rows, x.cols, x.dtype);
  on.run(CopyRows{.from = x, .to = copy});
  return copy;
}

void add_branch(Rank& rank, Pass& pass, Track& on, const Tensor& y, int64_t branch) {
  if (y.empty()) return;
  on.run(
      AddResidual{.y = y,
                  .residual = pass.x,
                  .dropout = rank.dropout(RandomStream::hidden_dropout, rank.model.hidden_dropout,
                                          branch, keys_of(pass.batch, pass.rows.owned))});
}

}  // namespace

Task<> attention_forward(Rank& rank, Pass& pass, Track& on) {
  if (pass.empty()) co_return;
  build_view(rank, pass);
  if (rank.first_stage())
    pass.x = co_await embed(rank, pass, on);
  else
    pass.x = co_await from_stage(rank, pass, on, rank.role.stage - 1);
  const Interval layers = rank.stage().layers;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    on.layer = static_cast<int16_t>(layer);
    LayerActivations& a = rank.activations(pass, layer);
    a.x_before = snapshot(rank, on, pass.x);
    Tensor y = co_await attention_block(rank, pass, on, a);
    add_branch(rank, pass, on, y, 2 * layer);
    if (rank.command.training.checkpoint_activations) a.forget_attention();
    a.x_middle = snapshot(rank, on, pass.x);
    y = co_await mixture_block(rank, pass, on, a);
    add_branch(rank, pass, on, y, 2 * layer + 1);
  }
  on.layer = -1;
  if (!rank.last_stage())
    to_stage(rank, pass, on, rank.role.stage + 1, pass.x);
  else if (rank.cached)
    co_await sample(rank, pass, on);
  else
    co_await loss(rank, pass, on);
}

Task<> attention_backward(Rank& rank, Pass& pass, Track& on) {
  if (pass.empty()) co_return;
  on.backward = true;
  Tensor dx;
  if (rank.last_stage())
    dx = co_await loss_backward(rank, pass, on);
  else
    dx = co_await from_stage(rank, pass, on, rank.role.stage + 1);
  const Interval layers = rank.stage().layers;
  for (int64_t layer = layers.end - 1; layer >= layers.begin; --layer) {
    on.layer = static_cast<int16_t>(layer);
    LayerActivations& a = rank.activations(pass, layer);
    co_await mixture_backward(rank, pass, on, a, dx);
    if (rank.command.training.checkpoint_activations) {
      const Tensor again = co_await attention_block(rank, pass, on, a);
    }
    Turnstile& gate = rank.attention_gates[layer - layers.begin];
    co_await gate.wait(pass.turn);
    co_await attention_backward_block(rank, pass, on, a, dx);
    gate.pass();
    a = {};
  }
  on.layer = -1;
  if (rank.first_stage())
    co_await embed_backward(rank, pass, on, dx);
  else
    to_stage(rank, pass, on, rank.role.stage - 1, dx);
}

Task<> expert_forward(Rank& rank, Pass& pass, Track& on) {
  if (pass.empty()) co_return;
  const Interval layers = rank.stage().layers;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
    on.layer = static_cast<int16_t>(layer);
    if (rank.weights.layer(layer).experts.experts.empty()) continue;
    co_await expert_layer(rank, pass, on, rank.expert_activations(pass, layer));
  }
}

Task<> expert_backward(Rank& rank, Pass& pass, Track& on) {
  if (pass.empty()) co_return;
  on.backward = true;
  const Interval layers = rank.stage().layers;
  for (int64_t layer = layers.end - 1; layer >= layers.begin; --layer) {
    on.layer = static_cast<int16_t>(layer);
    if (rank.weights.layer(layer).experts.experts.empty()) continue;
    co_await expert_layer_backward(rank, pass, on, rank.expert_activations(pass, layer));
  }
}

}  // namespace tandem
