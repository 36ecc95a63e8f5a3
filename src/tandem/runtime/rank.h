// One rank: its part of the plan, of the weights and of the caches, and the program it runs.
//
// A step is a set of micro-batches. For each, an attention rank runs one coroutine that walks
// through the layers, and an expert rank runs another; a rank that is both runs both. While one
// waits for a message the rank goes on with the next, which is all the scheduling there is.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "tandem/comm/collectives.h"
#include "tandem/comm/endpoint.h"
#include "tandem/runtime/activations.h"
#include "tandem/runtime/micro_batch.h"
#include "tandem/state/kv_cache.h"
#include "tandem/state/parameter_store.h"
#include "tandem/state/rank_parameters.h"

namespace tandem {

// Where rows of attention stand in keys and values; per micro-batch, the same for all layers.
struct AttentionView {
  std::vector<AttentionSequence> sequences;
  std::vector<int32_t> block_rows;  // training: the blocks of all sequences
  std::vector<int32_t> cache_rows;  // inference: where each row of the shard is stored
};

// One micro-batch on its way through one rank.
struct Pass {
  MicroBatch batch;
  int16_t turn = 0;  // number among the micro-batches that have rows
  RowLayout rows;
  AttentionView view;
  Tensor x;                                   // residual stream f32 [owned, H]
  std::vector<LayerActivations> layers;       // of the stage; one, reused, in inference
  std::vector<ExpertActivations> experts;     // likewise
  Tensor loss;                                // training: f32 [rows, 2], JoinStatistics
  Tensor head_rows, head_statistics, logits;  // training, last stage
  // Sums over this rank's rows; added up in the order of micro-batches.
  double loss_sum = 0, token_weight = 0, balance_loss = 0, z_loss = 0;
  bool empty() const { return batch.tokens.empty(); }
};

class Optimizer;

// Of plan_dispatch(), so that it does not allocate.
struct DispatchScratch {
  std::vector<int32_t> replicas, slices, destinations;  // where experts are
  std::vector<int32_t> first_term, starts, sorted;      // of (row, slot); by expert; both
  std::vector<int32_t> message_rows;                    // by term
  std::vector<int32_t> latest, pairs;                   // by destination: row; how many
};

class Rank {
 public:
  struct Settings {
    double timeout_seconds = 600;
    bool trainable = false;       // gradients and optimizer state are kept
    bool shard_optimizer = true;  // over the ranks that share a parameter
    std::vector<int> nodes;       // by rank, for collectives in two steps; empty: all on one
    // shards() of the plan, for many ranks in one process; null: each trainable rank cuts its own.
    const std::vector<Shard>* shards = nullptr;
  };

  Rank(std::shared_ptr<const Plan> plan, int rank, ParameterStore& store, Device& device,
       Transport& transport, Recorder& recorder, const Settings& settings,
       const Rank* before = nullptr);  // that this one succeeds

  ~Rank();

  // Obeys the controller (the peer behind the last rank) until the rank has failed, and is out of
  // step with the others, or has a successor. EpochOver.
  Task<> serve();
  // Itself under another plan, with what it holds: to be put in its place.
  std::unique_ptr<Rank> successor;

  // ---- what the parts of the program share (runtime/*.cc) ----
  std::pmr::memory_resource& frames() { return endpoint.frames(); }
  const Stage& stage() const { return plan.stages[role.stage]; }
  bool first_stage() const { return role.stage == 0; }
  bool last_stage() const { return role.stage + 1 == static_cast<int>(plan.stages.size()); }
  int global_rank(int rank_in_copy) const {
    return recorder.rank() - role.local_rank + rank_in_copy;
  }
  DType dtype() const { return store.dtype(); }
  // Anew, for the slots that are planned.
  void make_cache();
  int64_t tokens_per_slot() const { return tokens_per_slot_; }  // of the cache
  void plan_cache(int64_t slots, int64_t tokens_per_slot) {
    slots_ = slots, tokens_per_slot_ = tokens_per_slot;
  }
  Transport& transport() { return transport_; }
  LayerActivations& activations(Pass& pass, int64_t layer) const {
    return pass.layers[keeps ? layer - stage().layers.begin : 0];
  }
  ExpertActivations& expert_activations(Pass& pass, int64_t layer) const {
    return pass.experts[keeps ? layer - stage().layers.begin : 0];
  }
  Dropout dropout(RandomStream stream, double probability, int64_t layer,
                  std::span<const uint64_t> keys) const;

  const std::shared_ptr<const Plan> shared_plan;
  const Plan& plan;
  const ModelConfig& model;
  const Role role;
  const Settings settings;
  ParameterStore& store;
  Device& device;
  Recorder& recorder;
  Endpoint endpoint;

  RankParameters weights, gradients;
  std::vector<std::pair<Region, Tensor>> gradient_regions;
  Tensor rotation;  // f32 [positions, rotated columns of a head]
  std::unique_ptr<KvCache> cache;
  std::vector<int32_t> query_head;  // 0, 1, 2, ...: this rank's heads
  std::vector<int32_t> kv_head;     // for each of this rank's heads, among this rank's K/V heads
  // What attention reads of a token, and which columns of it are keys and which values: those of a
  // latent row are both.
  int64_t cache_width = 0;
  Interval key_columns, value_columns;

  Group head_group() const { return head_team_.group(role.place.group); }
  Group sequence_group() const { return sequence_team_.group(role.place.sequence); }
  Group shard_group() const {
    return shard_team_.group(role.place.sequence * stage().attention.groups() + role.place.group);
  }
  Group grid_group() const { return grid_team_.group(role.place.index); }
  std::vector<Interval> head_features;  // columns of each head group in the head outputs
  std::vector<int> expert_ranks;        // of the stage, ascending, global
  std::vector<int> expert_index;        // by rank in copy: index in expert_ranks, or -1

  Command command;
  Report report;
  std::vector<Tensor> reported_logits;  // f32, together a row a reported token
  std::unique_ptr<Optimizer> optimizer;
  bool cached = false;  // the command works on cached sequences (inference)
  bool keeps = false;   // activations are kept for a backward pass
  bool masks = false;   // dropout is on
  std::vector<Pass> passes;
  // Where gradients are added up: micro-batches pass in order. By layer of the stage; through that
  // of the vocabulary first for the output head, then for the embedding, which may be the same.
  std::vector<Turnstile> attention_gates, mixture_gates, expert_gates;
  std::unique_ptr<Turnstile> vocabulary_gate;
  int16_t turns = 0;  // micro-batches that have rows
  int16_t embedding_turn(const Pass& pass) const {
    return static_cast<int16_t>(last_stage() ? turns + pass.turn : pass.turn);
  }
  std::vector<int64_t> expert_tokens;  // [layer of the stage][expert] since the last report
  // Inference: of the sequences that live here, by slot: [layer of the stage][expert].
  std::unordered_map<int32_t, std::vector<int32_t>> capacity_used;
  std::vector<int64_t> batch_counts;  // tokens of the global batch [layer of the stage][expert]
  double batch_tokens = 0;            // counted tokens of the global batch
  std::vector<int64_t> scratch_cursors;
  DispatchScratch dispatch_scratch;

 private:
  Task<> obey();
  void answer();
  void find_groups();
  void make_rotation(const Rank* before);

  Transport& transport_;
  int64_t slots_ = 0, tokens_per_slot_ = 0;
  std::vector<int32_t> words_;  // of the last report
  std::vector<RowRef> order_;
  friend class RowsInOrder;
  // The ranks of a group, and how they lie on nodes.
  struct Team {
    std::vector<int> ranks;
    NodeOrder order;
    Group group(int me) const { return {ranks, me, order.members, order.node_size}; }
  };
  Team head_team_, sequence_team_, shard_team_, grid_team_;
};

// Rows 0, 1, 2, ... of one tensor as a RowList.
class RowsInOrder {
 public:
  RowsInOrder(Rank& rank, int64_t rows) {
    while (static_cast<int64_t>(rank.order_.size()) < rows)
      rank.order_.push_back({0, static_cast<int32_t>(rank.order_.size())});
    rows_ = std::span(rank.order_).first(rows);
  }
  RowList of(const Tensor& tensor) const { return {.sources = {&tensor, 1}, .rows = rows_}; }

 private:
  std::span<const RowRef> rows_;
};

}  // namespace tandem
