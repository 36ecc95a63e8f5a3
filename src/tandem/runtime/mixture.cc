#include "tandem/runtime/steps.h"

namespace tandem {
namespace {

void route(Rank& rank, const Pass& pass, Track& on, const AttentionParameters& w,
           LayerActivations& a) {
  const ModelConfig& model = rank.model;
  const int64_t rows = a.expert_rows.rows;
  // Behind those of the experts stands that of the shared one, where it has one.
  const Interval chosen{0, model.top_k_of(on.layer)};
  const bool gated = model.gates_shared_expert(on.layer);
  a.experts = a.served = on.allocate(rows, chosen.end, DType::i32);
  a.weights = on.allocate(rows, chosen.end + gated, DType::f32);
  if (!w.router) return;
  Tensor logits = linear(on, a.expert_rows, w.router, {}, DType::f32);
  a.probabilities = kept(rank, on, rows, model.experts, DType::f32);
  a.router_logsumexp = kept(rank, on, rows, 1, DType::f32);
  if (rows > 0)
    on.run(Route{.logits = logits,
                 .bias = w.router_bias,
                 .probabilities = a.probabilities,
                 .logsumexp = a.router_logsumexp,
                 .experts = a.experts,
                 .weights = a.weights.slice_cols(chosen),
                 .router = router_of(model),
                 .layer = on.layer,
                 .keys = keys_of(pass.batch, pass.rows.owned)});
  if (gated && rows > 0)
    on.run(Sigmoid{.x = linear(on, a.expert_rows, w.shared_router, {}, DType::f32),
                   .y = a.weights.slice_cols({chosen.end, a.weights.cols})});
}

// For who asks where tokens go: those this rank alone is responsible for.
void report_routing(Rank& rank, const Pass& pass, int64_t layer, const LayerActivations& a) {
  if (!rank.model.has_experts(layer)) return;
  const auto experts = rank.device.integers(a.experts);
  for (int64_t row = pass.rows.mine.begin; row < pass.rows.mine.end; ++row) {
    const uint64_t key = pass.batch.keys[row];
    auto& to = rank.report.routing;
    to.insert(to.end(), {static_cast<int32_t>(layer), static_cast<int32_t>(key >> 32),
                         static_cast<int32_t>(key)});
    const auto first = experts.begin() + (row - pass.rows.owned.begin) * rank.model.top_k;
    to.insert(to.end(), first, first + rank.model.top_k);
  }
}

// The rows and pairs for one expert rank; the rows are not copied where all of them go.
Message message_to(const Dispatch::Destination& destination, Rank& rank, Track& on,
                   const Tensor& rows) {
  Message message;
  message.parts[0] = rows;
  if (static_cast<int64_t>(destination.rows.size()) < rows.rows) {
    message.parts[0] =
        on.allocate(static_cast<int64_t>(destination.rows.size()), rows.cols, rows.dtype);
    if (!destination.rows.empty())
      on.run(CopyRows{.from = rows, .to = message.parts[0], .from_rows = destination.rows});
  }
  message.parts[1] =
      rank.device.upload(destination.pairs, destination.pair_count(), Dispatch::pair_words);
  return message;
}

// Every expert rank hears from every owner, also when there is nothing for it, so that it knows
// when it has everything. In a layer without experts there is nothing to hear.
void dispatch(Rank& rank, Pass& pass, Track& on, LayerActivations& a) {
  if (pass.rows.owned.empty() || !rank.model.has_experts(on.layer)) return;
  const Tag tag = tag_of(on, MessageKind::dispatch);
  for (size_t i = 0; i < rank.expert_ranks.size(); ++i) {
    if (pass.rows.replicated && rank.expert_ranks[i] != rank.endpoint.self()) continue;
    rank.endpoint.send(rank.expert_ranks[i], tag,
                       message_to(a.dispatch.destinations[i], rank, on, a.expert_rows));
  }
}

Tensor shared_expert(Rank& rank, Track& on, const AttentionParameters& w, LayerActivations& a) {
  const int64_t rows = a.expert_rows.rows, features = w.shared.up.rows;
  Tensor y = on.allocate(rows, a.expert_rows.cols, rank.dtype());
  if (rows == 0) return y;
  a.shared_gate = w.shared.gate ? kept(rank, on, rows, features, rank.dtype()) : Tensor{};
  a.shared_up = kept(rank, on, rows, features, rank.dtype());
  const RowsInOrder order(rank, rows);
  const std::array offsets{0, static_cast<int32_t>(rows)};
  on.run(Experts{.in = order.of(a.expert_rows),
                 .out = order.of(y),
                 .offsets = offsets,
                 .weights = {&w.shared, 1},
                 .activation = activation_of(rank.model),
                 .gate = a.shared_gate,
                 .up = a.shared_up});
  return y;
}

}  // namespace

Activation activation_of(const ModelConfig& model) {
  switch (model.activation) {
    case ExpertActivation::silu:
      return Activation::silu;
    case ExpertActivation::gelu:
      return Activation::gelu;
    case ExpertActivation::gelu_tanh:
      return Activation::gelu_tanh;
  }
  TANDEM_CHECK(false, "activation {}", static_cast<int>(model.activation));
}

Router router_of(const ModelConfig& model) {
  return {.sigmoid = model.router_score == RouterScore::sigmoid,
          .normalize = model.normalize_top_k,
          .scale = static_cast<float>(model.routing_scale),
          .groups = model.expert_groups,
          .chosen_groups = model.chosen_groups};
}

Task<Tensor> mixture_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a) {
  const AttentionParameters& w = rank.weights.layer(on.layer).attention;
  a.expert_rows =
      normed(rank, on, a.x_middle, w.expert_norm, w.expert_norm_bias, a.expert_statistics);
  route(rank, pass, on, w, a);
  if (rank.command.record_routing) report_routing(rank, pass, on.layer, a);
  co_await count_routing(rank, pass, on, a);
  plan_dispatch(rank, pass, on.layer, a);
  dispatch(rank, pass, on, a);

  const Tag tag = tag_of(on, MessageKind::combine);
  a.outputs.resize(rank.expert_ranks.size());
  Tensor shared;
  if (rank.model.shared_hidden_of(on.layer) > 0) shared = shared_expert(rank, on, w, a);
  for (size_t i = 0; i < rank.expert_ranks.size(); ++i) {
    if (a.dispatch.destinations[i].pairs.empty()) continue;
    Message message = co_await rank.endpoint.receive(rank.expert_ranks[i], tag);
    a.outputs[i] = std::move(message.parts[0]);
  }
  if (shared) a.outputs.push_back(shared);

  // An addend of a sum over ranks travels, so it has the type that messages have.
  Tensor y = on.allocate(a.expert_rows.rows, a.expert_rows.cols,
                         pass.rows.replicated ? rank.dtype() : DType::f32);
  if (!y.empty())
    on.run(Combine{.sources = a.outputs,
                   .terms = a.dispatch.terms,
                   .offsets = a.dispatch.offsets,
                   .weights = a.weights,
                   .out = y});
  if (!pass.rows.replicated) co_return y;
  co_return co_await to_owners(rank, pass, on, y, 6);
}

}  // namespace tandem
