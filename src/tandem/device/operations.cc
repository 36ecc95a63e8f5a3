#include "tandem/device/operations.h"

namespace tandem {
namespace {

double count(int64_t n) { return static_cast<double>(n); }
double bytes(const Tensor& t) { return count(t.bytes()); }
double elements(const Tensor& t) { return count(t.elements()); }
double row_bytes(const Tensor& t) { return count(t.cols * size_of(t.dtype)); }
double bytes(const RowList& list) { return count(list.size() * list.row_bytes()); }

// Multiplications of the grouped product and the matrices that have at least one row, in elements.
struct ExpertWork {
  double products = 0;
  double matrix_elements = 0;
  double matrix_bytes = 0;
};
ExpertWork expert_work(std::span<const int32_t> offsets, std::span<const ExpertMatrices> weights) {
  ExpertWork work;
  for (size_t e = 0; e < weights.size(); ++e) {
    const double rows = offsets[e + 1] - offsets[e];
    if (rows == 0) continue;
    for (const Tensor* t : {&weights[e].gate, &weights[e].up, &weights[e].down}) {
      work.products += rows * elements(*t);
      work.matrix_elements += elements(*t);
      work.matrix_bytes += bytes(*t);
    }
  }
  return work;
}

// (query, key) pairs that are seen, and the keys, once a sequence.
struct AttentionWork {
  double pairs = 0;
  double keys = 0;
};
AttentionWork attention_work(std::span<const AttentionSequence> sequences) {
  AttentionWork work;
  for (const AttentionSequence& s : sequences) {
    const double queries = count(s.query_rows.size());
    work.pairs += queries * count(s.first_position) + queries * (queries + 1) / 2;
    if (queries > 0) work.keys += count(s.key_count());
  }
  return work;
}

int64_t indexed_rows(const Tensor& from, const Tensor& to, std::span<const int32_t> from_rows,
                     std::span<const int32_t> to_rows) {
  if (!from_rows.empty() && !to_rows.empty()) {
    TANDEM_CHECK(from_rows.size() == to_rows.size(), "{} rows to {}", from_rows.size(),
                 to_rows.size());
  }
  if (!from_rows.empty()) return static_cast<int64_t>(from_rows.size());
  if (!to_rows.empty()) return static_cast<int64_t>(to_rows.size());
  return std::min(from.rows, to.rows);
}

}  // namespace

Cost Linear::cost() const {
  return {2 * elements(x) * count(weight.rows),
          bytes(x) + bytes(weight) + bytes(bias) + bytes(y) * (accumulate ? 2 : 1)};
}

Cost LinearInputGradient::cost() const {
  return {2 * elements(dy) * count(weight.cols),
          bytes(dy) + bytes(weight) + bytes(dx) * (accumulate ? 2 : 1)};
}

Cost LinearWeightGradient::cost() const {
  return {2 * elements(dy) * count(x.cols) + (dbias.empty() ? 0 : elements(dy)),
          bytes(dy) + bytes(x) + 2 * bytes(dweight) + 2 * bytes(dbias)};
}

Cost HeadLinear::cost() const {
  const double products = count(heads() * x.rows * weight_rows.width * weight.cols);
  const double rows = count(heads() * x.rows * (x_columns.width + y_columns.width));
  const double weights = count(heads() * weight_rows.width) * row_bytes(weight);
  return {2 * products, rows * count(size_of(x.dtype)) + weights};
}

Cost HeadLinearWeightGradient::cost() const {
  const double products = count(heads() * x.rows * weight_rows.width * dweight.cols);
  const double rows = count(heads() * x.rows * (x_columns.width + dy_columns.width));
  const double weights = count(heads() * weight_rows.width) * row_bytes(dweight);
  return {2 * products, rows * count(size_of(x.dtype)) + 2 * weights};
}

Cost Experts::cost() const {
  const ExpertWork work = expert_work(offsets, weights);
  return {2 * work.products, work.matrix_bytes + bytes(in) + bytes(out) + bytes(gate) + bytes(up)};
}

Cost ExpertsBackward::cost() const {
  const ExpertWork work = expert_work(offsets, weights);
  return {4 * work.products, work.matrix_bytes + 2 * 4 * work.matrix_elements + bytes(in) +
                                 bytes(dy) + bytes(dx) + bytes(gate) + bytes(up)};
}

Cost Attention::cost() const {
  const AttentionWork work = attention_work(sequences);
  return {
      2 * count((heads.head_dim + heads.value_dim) * heads.count()) * work.pairs,
      bytes(q) + bytes(out) + bytes(logsumexp) + work.keys * (row_bytes(keys) + row_bytes(values))};
}

Cost AttentionBackward::cost() const {
  const AttentionWork work = attention_work(sequences);
  // Scores, dq and dkeys are as wide as keys; dvalues and the gradient of probabilities as values.
  return {2 * count((3 * heads.head_dim + 2 * heads.value_dim) * heads.count()) * work.pairs,
          bytes(q) + bytes(out) + bytes(dout) + bytes(dq) + bytes(logsumexp) +
              work.keys * (row_bytes(keys) + row_bytes(values)) +
              2 * work.keys * (row_bytes(dkeys) + row_bytes(dvalues))};
}

Cost RotationTable::cost() const { return {.bytes = static_cast<double>(table.bytes())}; }
Cost Rotate::cost() const {
  const double numbers = count(x.rows * (x.cols / head_dim) * rotation.cols);
  return {3 * numbers, 2 * numbers * count(size_of(x.dtype)) + count(x.rows) * row_bytes(rotation)};
}

Cost Norm::cost() const {
  return {(kind == NormKind::layer ? 7 : 4) * elements(x),
          bytes(x) + bytes(weight) + bytes(bias) + bytes(y) + bytes(statistics)};
}

Cost NormBackward::cost() const {
  return {12 * elements(x), bytes(x) + bytes(weight) + bytes(statistics) + bytes(dy) +
                                2 * (bytes(dx) + bytes(dweight) + bytes(dbias))};
}

int64_t CopyRows::count() const { return indexed_rows(from, to, from_rows, to_rows); }
Cost CopyRows::cost() const {
  return {0, static_cast<double>(count()) * (row_bytes(from) + row_bytes(to))};
}

int64_t AddRows::count() const { return indexed_rows(from, to, from_rows, to_rows); }
Cost AddRows::cost() const {
  const double rows = static_cast<double>(count());
  return {rows * static_cast<double>(from.cols), rows * (row_bytes(from) + 2 * row_bytes(to))};
}

Cost Sum::cost() const {
  Cost cost{0, bytes(out)};
  for (const Tensor& input : inputs) cost += {elements(input), bytes(input)};
  return cost;
}

Cost AddResidual::cost() const { return {elements(y), bytes(y) + 2 * bytes(residual)}; }

Cost ResidualBackward::cost() const { return {elements(dy), bytes(dresidual) + bytes(dy)}; }

Cost Quantise::cost() const { return {2 * elements(from), bytes(from) + bytes(to)}; }
Cost Sigmoid::cost() const { return {4 * elements(x), bytes(x) + bytes(y)}; }

Cost SigmoidBackward::cost() const { return {3 * elements(y), bytes(y) + bytes(dy) + bytes(dx)}; }

Cost Zero::cost() const { return {0, bytes(x)}; }

Cost FillNormal::cost() const { return {40 * elements(x), bytes(x)}; }

Cost Route::cost() const {
  return {4 * elements(logits), bytes(logits) + bytes(bias) + bytes(probabilities) +
                                    bytes(logsumexp) + bytes(experts) + bytes(weights)};
}

Cost RouteBackward::cost() const {
  return {5 * elements(dlogits), bytes(probabilities) + bytes(logsumexp) + bytes(experts) +
                                     bytes(dweights) + bytes(dlogits) + bytes(balance)};
}

Cost Combine::cost() const {
  const double rows = static_cast<double>(terms.size());
  const double row = sources.empty() ? 0 : row_bytes(sources[0]);
  return {2 * rows * count(out.cols), rows * row + bytes(weights) + bytes(out)};
}

Cost CombineBackward::cost() const {
  const double rows = static_cast<double>(terms.size());
  const double row = sources.empty() ? 0 : row_bytes(sources[0]);
  return {3 * rows * count(dout.cols),
          rows * row + bytes(gradient) + bytes(weights) + bytes(dout) + bytes(dweights)};
}

Cost VocabularyStatistics::cost() const {
  return {3 * elements(logits), bytes(logits) + bytes(statistics)};
}

Cost JoinStatistics::cost() const {
  Cost cost{0, bytes(loss)};
  for (const Tensor& part : parts) cost += {elements(part), bytes(part)};
  return cost;
}

Cost HeadSquares::cost() const { return {2 * elements(x), bytes(x) + bytes(out)}; }
Cost SplitNorm::cost() const {
  return {2 * elements(x), bytes(x) + bytes(weight) + bytes(squares) + bytes(y) + bytes(scale)};
}
Cost SplitNormProduct::cost() const {
  return {4 * elements(x), bytes(x) + bytes(weight) + bytes(scale) + bytes(dy)};
}
Cost SplitNormBackward::cost() const {
  return {8 * elements(x), bytes(x) + bytes(weight) + bytes(scale) + bytes(dy) + bytes(products) +
                               bytes(dx) + 2 * bytes(dweight)};
}
Cost Clip::cost() const { return {elements(x), 2 * bytes(x)}; }
Cost ClipBackward::cost() const { return {elements(x), bytes(x) + 2 * bytes(dx)}; }

Cost VocabularyGradient::cost() const {
  return {3 * elements(logits), bytes(logits) + bytes(loss) + bytes(dlogits)};
}

Cost Sample::cost() const {
  Cost cost{0, bytes(tokens)};
  for (const Tensor& slice : slices) cost += {elements(slice), bytes(slice)};
  return cost;
}

Cost AdamW::cost() const {
  // Weights in f32 are their own master copy; shapes alone must tell.
  const bool same = weight.dtype == DType::f32;
  return {15 * elements(master), bytes(gradient) + 2 * bytes(first_moment) +
                                     2 * bytes(second_moment) + 2 * bytes(master) +
                                     (same ? 0 : bytes(weight))};
}

// Selecting the largest goes through a block some fifteen times, in the first-level cache.
Cost EncodeGradient::cost() const {
  return {(keeps_top(coding) ? 17 : 4) * elements(gradient),
          bytes(gradient) + 2 * bytes(residual) + bytes(out)};
}

Cost DecodeGradient::cost() const { return {elements(out), bytes(in) + bytes(out)}; }

Cost SquaredSum::cost() const { return {2 * elements(x), bytes(x) + bytes(out)}; }

}  // namespace tandem
