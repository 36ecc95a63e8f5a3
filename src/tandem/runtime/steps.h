// The parts of the rank program, each a coroutine over one micro-batch (rank.h says how they meet).
#pragma once

#include "tandem/runtime/rank.h"

namespace tandem {

inline Tag tag_of(const Track& on, MessageKind kind, uint8_t phase = 0) {
  return {.kind = kind,
          .phase = phase,
          .backward = on.backward,
          .layer = on.layer,
          .micro_batch = on.micro_batch()};
}

// ---- rows between ranks (exchange.cc) ----
// Rows held by their owners -> rows that this rank's heads need. Nothing moves where they are here.
Task<Tensor> to_compute(Rank& rank, Pass& pass, Track& on, Tensor owned, uint8_t phase);
// Addends of the rows of `compute`, one from each head group -> their sum, for the owners.
Task<Tensor> to_owners(Rank& rank, Pass& pass, Track& on, Tensor addend, uint8_t phase);
// The residual stream (forward) or its gradient (backward) from one stage to the next.
Task<Tensor> from_stage(Rank& rank, Pass& pass, Track& on, int stage);
void to_stage(Rank& rank, Pass& pass, Track& on, int stage, const Tensor& x);

// ---- attention (attention.cc, attention_backward.cc) ----
// y of the residual branch, for the owned rows.
Task<Tensor> attention_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a);
// Adds to dx, the gradient of the residual stream (f32 [owned, H]).
Task<> attention_backward_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a, Tensor dx);
void build_view(Rank& rank, Pass& pass);
AttentionHeads heads_of(const Rank& rank);
// By the positions of the rows of `compute`; in place. Nothing where positions are learned.
void rotate(const Rank& rank, const Pass& pass, const Track& on, const Tensor& x, int64_t head_dim,
            bool backward = false);

// ---- mixture, the attention side of the experts (mixture.cc, mixture_backward.cc) ----
Task<Tensor> mixture_block(Rank& rank, Pass& pass, Track& on, LayerActivations& a);
Task<> mixture_backward(Rank& rank, Pass& pass, Track& on, LayerActivations& a, Tensor dx);
// Fills a.dispatch from the routing of the owned rows (dispatch.cc).
void plan_dispatch(Rank& rank, Pass& pass, int64_t layer, LayerActivations& a);
// Routing of whole sequences, where a capacity or a balance loss needs it (capacity.cc).
Task<> count_routing(Rank& rank, Pass& pass, Track& on, LayerActivations& a);
// f32 [sequences of the shard + 1, experts] for RouteBackward; empty without a balance loss.
Tensor balance_factors(Rank& rank, const Pass& pass, Track& on, const LayerActivations& a);

// ---- experts (expert_side.cc) ----
Task<> expert_layer(Rank& rank, Pass& pass, Track& on, ExpertActivations& a);
Task<> expert_layer_backward(Rank& rank, Pass& pass, Track& on, ExpertActivations& a);

// ---- vocabulary (vocabulary.cc, loss.cc) ----
Task<Tensor> embed(Rank& rank, Pass& pass, Track& on);
Task<> embed_backward(Rank& rank, Pass& pass, Track& on, Tensor dx);
// Draws the next tokens of the sampled rows and reports them.
Task<> sample(Rank& rank, Pass& pass, Track& on);
Task<> loss(Rank& rank, Pass& pass, Track& on);
Task<Tensor> loss_backward(Rank& rank, Pass& pass, Track& on);  // gradient of the residual stream

// ---- the layers of a stage (forward.cc) ----
Task<> attention_forward(Rank& rank, Pass& pass, Track& on);
Task<> attention_backward(Rank& rank, Pass& pass, Track& on);
Task<> expert_forward(Rank& rank, Pass& pass, Track& on);
Task<> expert_backward(Rank& rank, Pass& pass, Track& on);

// ---- whole steps (step.cc) ----
Task<> infer(Rank& rank);
Task<> train(Rank& rank);

// ---- what a rank holds, to and from others (hand_over.cc) ----
Task<> take_weights(Rank& rank);
Task<> take_optimizer(Rank& rank);
Task<> give_pieces(Rank& rank);
Task<> restore_cache(Rank& rank);
// Makes the rank's successor under the command's plan (move.cc).
Task<> move_to_plan(Rank& rank);
inline constexpr Tag hand_over_tag{.kind = MessageKind::control, .phase = 1};
// What is kept of a piece besides its weight where weights are of a dtype.
std::vector<PieceState> optimizer_states(DType dtype);

// ---- small things they share (layers.cc) ----
// For what a rank does outside of any micro-batch.
Track own_track(Rank& rank);
// Kept for the backward pass, or an empty tensor in inference.
Tensor kept(const Rank& rank, const Track& on, int64_t rows, int64_t cols, DType dtype);
Tensor normed(Rank& rank, const Track& on, const Tensor& x, const Tensor& weight,
              const Tensor& bias, Tensor& statistics);
Tensor linear(const Track& on, const Tensor& x, const Tensor& weight, const Tensor& bias,
              DType dtype);
// RMSNorm within attention, of latent rows or of heads: x is f32, and stays for the backward pass.
void projection_norm(const Rank& rank, const Track& on, const Tensor& x, const Tensor& weight,
                     const Tensor& y, const Tensor& statistics);
// dx (f32) = gradient of x. What comes is this rank's heads' part of dy, and what is added to
// dweight therefore too.
void projection_norm_backward(const Track& on, const Tensor& x, const Tensor& weight,
                              const Tensor& statistics, const Tensor& dy, const Tensor& dx,
                              const Tensor& dweight);
Tensor as_type(const Track& on, const Tensor& x, DType dtype);  // itself where it has it already
Activation activation_of(const ModelConfig& model);
Router router_of(const ModelConfig& model);
NormKind norm_kind(const ModelConfig& model);
std::span<const uint64_t> keys_of(const MicroBatch& batch, const Interval& rows);

}  // namespace tandem
