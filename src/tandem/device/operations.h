// What a device can be asked to do. An operation is a plain struct of views and sizes; a device
// runs it (device.h). `cost()` is the least work it needs, from shapes alone, the same in every
// world.
//
// Conventions. Weights are [out, in], row-major, as in checkpoints; they are read in place, whole
// or as slices of rows or columns. "Compute type" is the dtype of the weights (f32 or bf16). Sums
// are kept in f32 and run in index order; the result for a row does not depend, to the last bit, on
// which rows stand beside it or on which columns are computed with it. Views that an operation
// writes never overlap views that it reads unless said so. Host arrays (spans) must live until
// run() returns.
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operands.h"
#include "tandem/trace/span.h"

namespace tandem {

// ---- products
// ------------------------------------------------------------------------------------

// y[M,N] = x[M,K] weight[N,K]^T (+ bias[1,N]) ; y += ... with accumulate.
// x has the compute type; y has it or is f32.
struct Linear {
  static constexpr const char* name = "linear";
  Tensor x, weight, bias, y;
  bool accumulate = false;
  Cost cost() const;
};

// dx[M,K] (+)= dy[M,N] weight[N,K]. dy has the compute type; dx has it or is f32.
struct LinearInputGradient {
  static constexpr const char* name = "linear input gradient";
  Tensor dy, weight, dx;
  bool accumulate = false;
  Cost cost() const;
};

// dweight[N,K] += dy[M,N]^T x[M,K], dbias[1,N] += column sums of dy. Gradients are f32.
struct LinearWeightGradient {
  static constexpr const char* name = "linear weight gradient";
  Tensor dy, x, dweight, dbias;
  Cost cost() const;
};

// Columns (or rows) of head h of a tensor: width of them, from first + h * step on.
struct HeadSlices {
  int64_t first = 0, width = 0, step = 0;
  Interval of(int64_t head) const { return Interval{0, width}.shifted(first + head * step); }
};

// A product for each head: y_h = x_h weight_h^T, or x_h weight_h where `transposed`. weight_h are
// some rows of the weight, x_h and y_h some columns; there are weight.rows / weight_rows.step
// heads.
struct HeadLinear {
  static constexpr const char* name = "head linear";
  Tensor x, weight, y;
  HeadSlices x_columns, weight_rows, y_columns;
  bool transposed = false;
  int64_t heads() const { return weight.rows / weight_rows.step; }
  Cost cost() const;
};

// dweight_h += dy_h^T x_h; f32.
struct HeadLinearWeightGradient {
  static constexpr const char* name = "head linear weight gradient";
  Tensor dy, x, dweight;
  HeadSlices dy_columns, x_columns, weight_rows;
  int64_t heads() const { return dweight.rows / weight_rows.step; }
  Cost cost() const;
};

enum class Activation : uint8_t { silu, gelu, gelu_tanh };

// Matrices of one expert: down[H,F] act(up[F,H] x), or down (act(gate x) * up x) where there is a
// gate.
struct ExpertMatrices {
  Tensor gate, up, down;
  int64_t first_feature = 0;  // of its hidden features in the whole expert (dropout)
};

// A grouped product: rows offsets[e] .. offsets[e+1] of `in` go through expert e. `in.rows` are
// sorted by expert; row i of the result is written to row i of `out` (compute type). gate, up:
// pre-activations [P,F] kept for the backward pass; both empty in inference (gate is empty as well
// for experts without one). Dropout masks the hidden features.
struct Experts {
  static constexpr const char* name = "experts";
  RowList in, out;
  std::span<const int32_t> offsets;
  std::span<const ExpertMatrices> weights;
  Activation activation = Activation::silu;
  Tensor gate, up;
  Dropout dropout;
  Cost cost() const;
};

// dx rows = gradient of the rows of `in`, from dy rows; adds to the f32 gradients of the matrices.
struct ExpertsBackward {
  static constexpr const char* name = "experts backward";
  RowList in, dy, dx;
  std::span<const int32_t> offsets;
  std::span<const ExpertMatrices> weights;
  std::span<const ExpertMatrices> gradients;  // f32
  Activation activation = Activation::silu;
  Tensor gate, up;  // pre-activations from Experts
  Dropout dropout;
  Cost cost() const;
};

// ---- attention
// -----------------------------------------------------------------------------------

// Keys and values are reached in blocks of this many positions; the borders are part of the
// result's bits (online softmax), so they are fixed: block i holds positions 64 i .. 64 i + 63.
inline constexpr int64_t kv_block_tokens = 64;

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

// table (f32 [positions, d]): cosines of position * theta^(-2 i / d) in the first d/2 columns,
// sines in the rest.
struct RotationTable {
  static constexpr const char* name = "rotation table";
  Tensor table;
  double theta = 10000;
  Cost cost() const;
};

// Rotates the last d columns of every head of x in place, in pairs (i, i + d/2) (the "rotate half"
// form of Llama, Mixtral). rotation: [positions, d], as RotationTable makes it.
// backward = true turns the other way.
struct Rotate {
  static constexpr const char* name = "rotate";
  Tensor x, rotation;
  std::span<const int32_t> positions;  // one a row
  int64_t head_dim = 0;                // >= d
  bool backward = false;
  Cost cost() const;
};

// ---- rows
// ----------------------------------------------------------------------------------------

enum class NormKind : uint8_t { rms, layer };

// y (compute type) = norm(x) * weight (+ bias); x f32. statistics: f32 [M,2] (mean, 1/deviation),
// kept for the backward pass, or empty.
struct Norm {
  static constexpr const char* name = "norm";
  NormKind kind = NormKind::rms;
  float epsilon = 1e-5f;
  Tensor x, weight, bias, y, statistics;
  Cost cost() const;
};

// dx (f32) += gradient, from dy (f32); dweight, dbias (f32 [1,H]) += sums over the rows
// `weight_rows` alone.
struct NormBackward {
  static constexpr const char* name = "norm backward";
  NormKind kind = NormKind::rms;
  Tensor x, weight, statistics, dy, dx, dweight, dbias;
  Interval weight_rows;
  Cost cost() const;
};

// to[to_rows[i]] = from[from_rows[i]], with conversion of dtype. An empty index means 0, 1, 2, ...
// Copying a view onto itself does nothing.
struct CopyRows {
  static constexpr const char* name = "copy";
  Tensor from, to;
  std::span<const int32_t> from_rows, to_rows;
  int64_t count() const;
  Cost cost() const;
};

// to[to_rows[i]] += from[from_rows[i]], in order of i; to is f32.
struct AddRows {
  static constexpr const char* name = "add";
  Tensor from, to;
  std::span<const int32_t> from_rows, to_rows;
  int64_t count() const;
  Cost cost() const;
};

// out = sum of inputs in their order, computed in f32; same shapes, any dtypes; out may be
// inputs[0].
struct Sum {
  static constexpr const char* name = "sum";
  std::span<const Tensor> inputs;
  Tensor out;
  Cost cost() const;
};

// residual (f32) += dropout(y).
struct AddResidual {
  static constexpr const char* name = "residual";
  Tensor y, residual;
  Dropout dropout;
  Cost cost() const;
};

// dy (compute type or f32) = mask of the same dropout times dresidual (f32).
struct ResidualBackward {
  static constexpr const char* name = "residual backward";
  Tensor dresidual, dy;
  Dropout dropout;
  Cost cost() const;
};

// fp8 (with factors, from a whole block of rows on) = the nearest to `from` (f32), each block
// scaled so that its largest number is the largest there is.
struct Quantise {
  static constexpr const char* name = "quantise";
  Tensor from, to;
  Cost cost() const;
};

struct Zero {
  static constexpr const char* name = "zero";
  Tensor x;
  Cost cost() const;
};

// x[i,j] = deviation * normal number (first_row + i) * full_cols + first_col + j of stream
// `source`.
struct FillNormal {
  static constexpr const char* name = "initialise";
  Tensor x;
  float deviation = 0.02f;
  uint64_t seed = 0;
  uint64_t item = 0;  // which parameter
  int64_t first_row = 0, first_col = 0, full_cols = 0;
  Cost cost() const;
};

// ---- routing
// -------------------------------------------------------------------------------------

// probabilities[M,E] = softmax(logits[M,E]); experts[M,k] (i32), largest probability first, the
// lower number first among equals; weights[M,k] = their probabilities, divided by their sum if
// normalize; logsumexp[M,1]. All f32 but experts. probabilities and logsumexp may be empty
// (inference).
struct Route {
  static constexpr const char* name = "route";
  Tensor logits, probabilities, logsumexp, experts, weights;
  bool normalize = false;
  // Which tokens these are, for a device that knows their experts beforehand.
  int64_t layer = 0;
  std::span<const uint64_t> keys;  // one a row
  Cost cost() const;
};

// dlogits[M,E] (f32) from dweights[M,k], plus the auxiliary losses: balance[groups,E] is the
// gradient of the load-balance loss with respect to a row's probabilities, for the row's group;
// z_scale * 2 * logsumexp * probabilities is added for the router z-loss.
struct RouteBackward {
  static constexpr const char* name = "route backward";
  Tensor probabilities, logsumexp, experts, dweights, dlogits;
  Tensor balance;                      // may be empty
  std::span<const int32_t> row_group;  // one a row; -1: the row has no auxiliary losses
  float z_scale = 0;
  bool normalize = false;
  Cost cost() const;
};

// out[0, 0] = sum over `rows` of balance[group] . probabilities, out[0, 1] = of logsumexp squared
// (f32); rows of group -1 left out.
struct RouterLoss {
  static constexpr const char* name = "router loss";
  Tensor probabilities, logsumexp, balance, out;
  std::span<const int32_t> row_group;
  Interval rows;
  Cost cost() const;
};

// One addend of a token's mixture: weights[token, slot] * row. slot < 0: the row as it is.
struct CombineTerm {
  RowRef row;
  int32_t slot = 0;
};

// out[t] (compute type or f32) = sum over terms[offsets[t] .. offsets[t+1]] in order.
struct Combine {
  static constexpr const char* name = "combine";
  std::span<const Tensor> sources;
  std::span<const CombineTerm> terms;
  std::span<const int32_t> offsets;  // M + 1
  Tensor weights, out;
  Cost cost() const;
};

// For each term i: gradient.rows[i] = weight * dout[t] and dweights[t, slot] += row . dout[t];
// dweights (f32 [M,k]) is zeroed first. dout is f32.
struct CombineBackward {
  static constexpr const char* name = "combine backward";
  std::span<const Tensor> sources;
  std::span<const CombineTerm> terms;
  std::span<const int32_t> offsets;
  Tensor weights, dout, dweights;
  RowList gradient;  // one row a term
  Cost cost() const;
};

// ---- vocabulary
// ----------------------------------------------------------------------------------

// For a slice of the vocabulary: statistics[M,3] (f32) = max, sum of exp(logit - max), logit of the
// target (0 where targets[i] lies outside the slice). targets are columns of the slice.
struct VocabularyStatistics {
  static constexpr const char* name = "softmax statistics";
  Tensor logits, statistics;
  std::span<const int32_t> targets;
  Cost cost() const;
};

// Joins the statistics of all slices, in order: loss[M,2] (f32) = logsumexp, -log probability of
// the target (0 where row_weights[i] is 0).
struct JoinStatistics {
  static constexpr const char* name = "join statistics";
  std::span<const Tensor> parts;
  std::span<const float> row_weights;
  Tensor loss;
  Cost cost() const;
};

// dlogits (compute type) = row_weights[i] * (softmax - one hot) on the slice.
struct VocabularyGradient {
  static constexpr const char* name = "softmax gradient";
  Tensor logits, loss, dlogits;
  std::span<const int32_t> targets;
  std::span<const float> row_weights;
  Cost cost() const;
};

// temperature 0 takes the largest logit (the lower id among equals). Otherwise: divide by
// temperature, keep the top_k largest (0: all), then the fewest that reach probability top_p, draw
// with uniform number (seed, position) of the sampling stream.
struct Sampling {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  uint64_t seed = 0;
  int64_t position = 0;
};

// tokens[i,0] (i32) from the whole row of logits: slices[j] holds the columns of slice j in order.
struct Sample {
  static constexpr const char* name = "sample";
  std::span<const Tensor> slices;  // f32, each [M, part of V]
  std::span<const Sampling> rows;
  Tensor tokens;
  Cost cost() const;
};

// ---- optimizer
// -----------------------------------------------------------------------------------

// AdamW (Loshchilov & Hutter, 2019) on one view: master (f32) is updated and written to weight in
// the weight's dtype; both may be the same f32 view. gradient is scaled by gradient_scale first.
struct AdamW {
  static constexpr const char* name = "adamw";
  Tensor weight, master, first_moment, second_moment, gradient;
  float learning_rate = 1e-4f, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, weight_decay = 0.1f;
  float gradient_scale = 1;
  int64_t step = 1;  // counts from 1
  Cost cost() const;
};

// out[0,0] (f32) = sum of squares of x (f32), summed in f64.
struct SquaredSum {
  static constexpr const char* name = "norm of gradient";
  Tensor x, out;
  Cost cost() const;
};

}  // namespace tandem
