// Attention and rotary positions. Conventions: operations.h.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// Keys and values are reached in blocks of this many positions; the borders are part of the
// result's bits (online softmax), so they are fixed: block i holds positions 64 i .. 64 i + 63.
inline constexpr int64_t kv_block_tokens = 64;
// That hold so many positions.
constexpr int64_t kv_blocks(int64_t tokens) {
  return (tokens + kv_block_tokens - 1) / kv_block_tokens;
}

// Some query rows of one sequence: consecutive positions, each sees keys at its own and all earlier
// positions. block_rows[i] is the row of `keys`/`values` that holds position 64 i; the block's
// other positions follow it.
struct AttentionSequence {
  Interval query_rows;
  int64_t first_position = 0;
  std::span<const int32_t> block_rows;
  int64_t key_count() const { return first_position + query_rows.size(); }
};

struct AttentionHeads {
  int64_t head_dim = 0;              // of queries and keys
  int64_t value_dim = 0;             // of values and of what comes out
  std::span<const int32_t> kv_head;  // for each query head: its head in keys/values; ascending
  int64_t first_head = 0;            // number of query head 0 in the whole model (dropout)
  float scale = 1;
  int64_t count() const { return static_cast<int64_t>(kv_head.size()); }
};

// out[M, heads * value_dim] = softmax(scale q k^T) v, causal, never forming the whole score matrix.
// q, keys, values, out: compute type; values may be a view of columns of the keys (latent
// attention). logsumexp: f32 [M, heads], of the scaled scores, kept for the
// backward pass, or empty. Attention dropout masks probabilities: row key = mix(key of the query
// row, head number), feature = key position.
struct Attention {
  static constexpr const char* name = "attention";
  static constexpr const char* name_with_dropout = "attention with dropout";
  Tensor q, keys, values, out, logsumexp;
  std::span<const AttentionSequence> sequences;
  AttentionHeads heads;
  Dropout dropout;
  Cost cost() const;
};

// dq (compute type) is written; dkeys, dvalues (f32, as many rows as keys) are added to. They do
// not overlap, even where values are a view of the keys.
struct AttentionBackward {
  static constexpr const char* name = "attention backward";
  Tensor q, keys, values, out, logsumexp, dout;
  Tensor dq, dkeys, dvalues;
  std::span<const AttentionSequence> sequences;
  AttentionHeads heads;
  Dropout dropout;
  Cost cost() const;
};

// table (f32 [positions, d]): scale * cosines of position * radians[i] in the first d/2 columns,
// sines in the rest.
struct RotationTable {
  static constexpr const char* name = "rotation table";
  Tensor table;
  std::span<const double> radians;  // d/2
  double scale = 1;
  Cost cost() const;
};

// Rotates the last d columns of every head of x in place, in pairs (i, i + d/2) (the "rotate half"
// form of Llama, Mixtral), or of neighbours (2 i, 2 i + 1) (DeepSeek). rotation: [positions, d], as
// RotationTable makes it. backward = true turns the other way.
struct Rotate {
  static constexpr const char* name = "rotate";
  Tensor x, rotation;
  std::span<const int32_t> positions;  // one a row
  int64_t head_dim = 0;                // >= d
  bool interleaved = false;            // pairs of neighbours
  bool backward = false;
  Cost cost() const;
};

}  // namespace tandem
