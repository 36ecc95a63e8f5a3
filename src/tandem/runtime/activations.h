// What a rank keeps of one micro-batch in one layer. In inference the same structs are scratch: a
// tensor is let go as soon as it is overwritten.
#pragma once

#include <vector>

#include "tandem/device/operations.h"

namespace tandem {

// Which rows went to which expert rank, and how what comes back is put together.
struct Dispatch {
  struct Destination {
    std::vector<int32_t> rows;   // of the owned rows, ascending: what is sent
    std::vector<int32_t> pairs;  // per (row, expert): row in the message, expert, slot, position
    int64_t pair_count() const { return static_cast<int64_t>(pairs.size()) / pair_words; }
    void clear() { rows.clear(), pairs.clear(); }
  };
  static constexpr int64_t pair_words = 4;

  std::vector<Destination> destinations;  // one an expert rank of the stage
  std::vector<CombineTerm> terms;         // source: destination; the shared expert behind them
  std::vector<int32_t> offsets;           // of terms, by owned row
};

// What queries or keys were before their norm (f32), how it changed them, and before they were
// clipped.
struct ProjectionActivations {
  Tensor before, statistics, unclipped;
};

struct LayerActivations {
  // attention
  Tensor x_before;     // residual stream, f32 [owned, H]
  Tensor statistics;   // of the norm
  Tensor rows;         // normed rows of `compute`
  Tensor q;            // [compute, heads * key_dim], rotated
  Tensor keys_values;  // [shard, cache width], keys rotated
  Tensor out;          // [compute, heads * attended_dim]
  Tensor logsumexp;    // f32 [compute, heads]
  Tensor head_out;     // [compute, heads * output_dim]; `out` itself but for latent attention
  Tensor head_rows;    // exchange heads: [owned, all heads * d]
  ProjectionActivations queries, keys;
  Tensor unclipped_values;
  // latent attention
  Tensor query_latent, query_statistics, query_rows;  // f32, and normed
  Tensor projected_q;                                 // [compute, heads * d], rotated
  Tensor latent, latent_statistics;                   // f32 [compute, latent + rotary]
  // experts
  Tensor x_middle;  // f32 [owned, H]
  Tensor expert_statistics;
  Tensor expert_rows;  // normed [owned, H]
  Tensor probabilities, router_logsumexp, experts, weights;
  Tensor served;  // experts, with -1 for what a capacity drops
  Dispatch dispatch;
  std::vector<Tensor> outputs;  // what came back from each destination, then the shared expert's
  Tensor shared_gate, shared_up;
  std::vector<int32_t> sequence_counts;  // tokens of each [sequence of the shard][expert]
  std::vector<int32_t> row_group;        // sequence of each owned row; -1: not counted

  // Drops what attention_block makes again out of x_before.
  void forget_attention() {
    statistics = rows = q = keys_values = out = logsumexp = head_out = head_rows = {};
    queries = keys = {};
    unclipped_values = {};
    query_latent = query_statistics = query_rows = projected_q = latent = latent_statistics = {};
  }
};

struct ExpertActivations {
  std::vector<int> sources;     // attention ranks, by index in the grid
  std::vector<Tensor> rows;     // message from each source
  std::vector<Tensor> pairs;    // i32 [pairs, Dispatch::pair_words]
  std::vector<RowRef> in, out;  // sorted by expert
  std::vector<uint64_t> keys;
  std::vector<int32_t> offsets;
  Tensor gate, up;
};

}  // namespace tandem
