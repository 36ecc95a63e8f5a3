// Routing and the weighted sum of the experts' outputs, forward and backward.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {
namespace {

// The k largest of `values`, largest first, the lower index first among equals. NaN counts as the
// smallest. Whole pieces without a candidate are passed over.
class Largest {
 public:
  Largest(int32_t* indices, float* best, int64_t k) : indices_(indices), best_(best), k_(k) {}

  void scan(const float* values, int64_t count) {
    constexpr int64_t piece = 128;
    for (int64_t begin = 0; begin < count; begin += piece) {
      const int64_t end = std::min(count, begin + piece);
      if (found_ == k_ && !(largest(numbers(values + begin), end - begin) > best_[k_ - 1]))
        continue;
      for (int64_t i = begin; i < end; ++i) offer(values[i], static_cast<int32_t>(i));
    }
  }

 private:
  void offer(float value, int32_t index) {
    if (std::isnan(value)) value = -std::numeric_limits<float>::infinity();
    if (found_ == k_ && !(value > best_[k_ - 1])) return;
    int64_t at = found_ == k_ ? k_ - 1 : found_++;
    for (; at > 0 && value > best_[at - 1]; --at) {
      best_[at] = best_[at - 1];
      indices_[at] = indices_[at - 1];
    }
    best_[at] = value;
    indices_[at] = index;
  }

  int32_t* indices_;
  float* best_;
  int64_t k_;
  int64_t found_ = 0;
};

// Probabilities of all experts; their logsumexp, or 0 where each stands for itself.
float probabilities_of(const Route& op, int64_t row, float* p) {
  const int64_t count = op.logits.cols;
  const Numbers logits = numbers(op.logits, row);
  if (op.router.sigmoid) {
    const float* x = op.logits.row<float>(row);
    for (int64_t e = 0; e < count; ++e) p[e] = 1 / (1 + std::exp(-x[e]));
    return 0;
  }
  const float most = largest(logits, count);
  const float sum = sum_of_exp(logits, most, count);
  shifted_exp(1 / sum, logits, most, numbers(p), count);
  return most + std::log(sum);
}

// Leaves only the best groups: the scores of all others become the least there is. `buffer`: three
// numbers for each group.
void keep_best_groups(const Router& router, bool pairs, float* scores, int64_t count,
                      float* buffer) {
  constexpr float least = -std::numeric_limits<float>::infinity();
  const int64_t size = count / router.groups;
  float *worth = buffer, *best = buffer + router.groups;
  auto* chosen = reinterpret_cast<int32_t*>(buffer + 2 * router.groups);
  for (int64_t g = 0; g < router.groups; ++g) {
    float first = least, second = least;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      second = std::max(second, std::min(first, scores[e]));
      first = std::max(first, scores[e]);
    }
    worth[g] = pairs && size > 1 ? first + second : first;
  }
  Largest(chosen, best, router.chosen_groups).scan(worth, router.groups);
  for (int64_t g = 0; g < router.groups; ++g)
    if (std::find(chosen, chosen + router.chosen_groups, g) == chosen + router.chosen_groups)
      std::fill_n(scores + g * size, size, least);
}

// `buffer`: five times as many numbers as there are experts.
void route_row(const Route& op, int64_t row, float* buffer) {
  const int64_t count = op.logits.cols, k = op.experts.cols;
  float* p = op.probabilities.empty() ? buffer : op.probabilities.row<float>(row);
  const float logsumexp = probabilities_of(op, row, p);
  if (!op.logsumexp.empty()) op.logsumexp.row<float>(row)[0] = logsumexp;

  float* weights = op.weights.row<float>(row);
  int32_t* experts = op.experts.row<int32_t>(row);
  float* scores = buffer + count;
  std::copy_n(p, count, scores);
  if (!op.bias.empty()) add(numbers(op.bias, 0), scores, count);
  if (op.router.groups > op.router.chosen_groups)
    keep_best_groups(op.router, !op.bias.empty(), scores, count, scores + count);
  Largest(experts, weights, k).scan(scores, count);
  float total = 0;
  for (int64_t j = 0; j < k; ++j) {
    weights[j] = p[experts[j]];
    total += weights[j];
  }
  if (!op.router.normalize) total = 1;
  for (int64_t j = 0; j < k; ++j) weights[j] = weights[j] / total * op.router.scale;
}

// From the gradient of p / sum(p) to that of p, in place.
void through_sum(const float* p, float* d, int64_t count) {
  const float sum = std::accumulate(p, p + count, 0.0f);
  const float mean = dot(numbers(d), p, count) / sum;
  for (int64_t e = 0; e < count; ++e) d[e] = (d[e] - mean) / sum;
}

void route_backward_row(const RouteBackward& op, int64_t row, float* dp) {
  const int64_t count = op.probabilities.cols, k = op.experts.cols;
  const float *p = op.probabilities.row<float>(row), *dweights = op.dweights.row<float>(row);
  const int32_t* experts = op.experts.row<int32_t>(row);
  const int32_t group = op.row_group[static_cast<size_t>(row)];
  const Router& router = op.router;
  if (op.balance.empty() || group < 0) {
    std::fill(dp, dp + count, 0.0f);
  } else {
    convert(numbers(op.balance, group), numbers(dp), count);
    if (router.sigmoid) through_sum(p, dp, count);
  }
  float total = 1, mean = 0;  // of the chosen probabilities; of dweights, weighted by w
  if (router.normalize) {
    total = 0;
    for (int64_t j = 0; j < k; ++j) total += p[experts[j]];
    for (int64_t j = 0; j < k; ++j) mean += dweights[j] * (p[experts[j]] / total);
  }
  for (int64_t j = 0; j < k; ++j) dp[experts[j]] += router.scale * (dweights[j] - mean) / total;
  float* dlogits = op.dlogits.row<float>(row);
  if (router.sigmoid) {
    for (int64_t e = 0; e < count; ++e) dlogits[e] = dp[e] * p[e] * (1 - p[e]);
    return;
  }
  float shift = dot(numbers(dp), p, count);
  if (group >= 0) shift -= 2 * op.z_scale * op.logsumexp.row<float>(row)[0];
  multiply(numbers(dp), p, numbers(dlogits), count);
  add_scaled(-shift, numbers(p), dlogits, count);
}

float weight_of(const Tensor& weights, int64_t token, int32_t slot) {
  return slot < 0 ? 1 : weights.row<float>(token)[slot];
}

// One piece of one row of the mixture, summed in f32.
constexpr int64_t piece = 1024;
void combine_piece(const Combine& op, int64_t token, const Interval& cols, float* sum) {
  const size_t begin = static_cast<size_t>(op.offsets[static_cast<size_t>(token)]);
  const size_t end = static_cast<size_t>(op.offsets[static_cast<size_t>(token) + 1]);
  std::fill(sum, sum + cols.size(), 0.0f);
  for (size_t i = begin; i < end; ++i) {
    const CombineTerm& term = op.terms[i];
    if (term.row.source < 0) continue;
    const Tensor& source = op.sources[static_cast<size_t>(term.row.source)];
    const Numbers row = numbers(source, term.row.row, cols.begin);
    add_scaled(weight_of(op.weights, token, term.slot), row, sum, cols.size());
  }
  convert(numbers(sum), numbers(op.out, token, cols.begin), cols.size());
}

void combine_backward_row(const CombineBackward& op, int64_t token) {
  const int64_t cols = op.dout.cols;
  const float* dout = op.dout.row<float>(token);
  if (!op.dweights.empty()) {
    std::fill_n(op.dweights.row<float>(token), op.dweights.cols, 0.0f);
  }
  const size_t begin = static_cast<size_t>(op.offsets[static_cast<size_t>(token)]);
  const size_t end = static_cast<size_t>(op.offsets[static_cast<size_t>(token) + 1]);
  for (size_t i = begin; i < end; ++i) {
    const CombineTerm& term = op.terms[i];
    if (i < op.gradient.rows.size() && op.gradient.rows[i].source >= 0) {
      const RowRef& to = op.gradient.rows[i];
      scale(weight_of(op.weights, token, term.slot), numbers(dout),
            numbers(op.gradient.sources[static_cast<size_t>(to.source)], to.row), cols);
    }
    if (term.slot < 0 || term.row.source < 0 || op.dweights.empty()) continue;
    const Tensor& source = op.sources[static_cast<size_t>(term.row.source)];
    op.dweights.row<float>(token)[term.slot] += dot(numbers(source, term.row.row), dout, cols);
  }
}

}  // namespace

void run(const Route& op, int threads) {
  TANDEM_CHECK(op.logits.dtype == DType::f32 && op.experts.dtype == DType::i32 &&
                   op.experts.cols <= op.logits.cols,
               "{} of {} experts from {}", op.experts.cols, op.logits.cols,
               dtype_name(op.logits.dtype));
  parallel_ranges(useful_threads(threads, op.logits.elements()), op.logits.rows,
                  [&](const Interval& rows) {
                    static thread_local Scratch scratch;
                    float* const buffer = scratch.get<float>(5 * op.logits.cols);
                    for (int64_t row = rows.begin; row < rows.end; ++row)
                      route_row(op, row, buffer);
                  });
}

void run(const RouteBackward& op, int threads) {
  parallel_ranges(useful_threads(threads, op.dlogits.elements()), op.dlogits.rows,
                  [&](const Interval& rows) {
                    std::vector<float> dp(static_cast<size_t>(op.dlogits.cols));
                    for (int64_t row = rows.begin; row < rows.end; ++row) {
                      route_backward_row(op, row, dp.data());
                    }
                  });
}

void run(const Combine& op, int threads) {
  const int64_t cols = op.out.cols;
  const int64_t work = static_cast<int64_t>(op.terms.size()) * cols;
  parallel_ranges(useful_threads(threads, work), op.out.rows, [&](const Interval& rows) {
    alignas(64) float sum[piece];
    for (int64_t token = rows.begin; token < rows.end; ++token) {
      for (int64_t begin = 0; begin < cols; begin += piece) {
        combine_piece(op, token, {begin, std::min(cols, begin + piece)}, sum);
      }
    }
  });
}

void run(const CombineBackward& op, int threads) {
  const int64_t work = static_cast<int64_t>(op.terms.size()) * op.dout.cols;
  parallel_ranges(useful_threads(threads, work), op.dout.rows, [&](const Interval& rows) {
    for (int64_t token = rows.begin; token < rows.end; ++token) combine_backward_row(op, token);
  });
}

}  // namespace tandem::cpu
