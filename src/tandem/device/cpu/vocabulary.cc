// Softmax over a vocabulary that may be split among ranks: the loss, its gradient, sampling.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/row_math.h"

namespace tandem::cpu {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

float row_weight(std::span<const float> weights, int64_t row) {
  return weights.empty() ? 1 : weights[static_cast<size_t>(row)];
}

// The first largest of a row of logits in slices; NaN counts as -infinity.
int32_t first_largest(std::span<const Tensor> slices, int64_t row) {
  float best = minus_infinity;
  int64_t index = 0, first_col = 0;
  for (const Tensor& slice : slices) {
    const float most = largest(numbers(slice, row), slice.cols);
    if (most > best) {
      const float* logits = slice.row<float>(row);
      best = most;
      index = first_col + (std::find(logits, logits + slice.cols, most) - logits);
    }
    first_col += slice.cols;
  }
  return static_cast<int32_t>(index);
}

struct Candidate {
  float logit;
  int32_t token;
  // The more likely first, then the lower token.
  bool operator<(const Candidate& other) const {
    return logit != other.logit ? logit > other.logit : token < other.token;
  }
};

// A whole row of logits divided by the temperature.
std::vector<float> tempered(std::span<const Tensor> slices, int64_t row, float temperature) {
  int64_t count = 0;
  for (const Tensor& slice : slices) count += slice.cols;
  std::vector<float> all(static_cast<size_t>(count));
  float* to = all.data();
  for (const Tensor& slice : slices) {
    scale(1 / temperature, numbers(slice, row), numbers(to), slice.cols);
    to += slice.cols;
  }
  return all;
}

std::vector<Candidate> candidates_of(std::span<const float> logits) {
  std::vector<Candidate> all;
  all.reserve(logits.size());
  for (const float logit : logits) {
    all.push_back({std::isnan(logit) ? minus_infinity : logit, static_cast<int32_t>(all.size())});
  }
  return all;
}

// Sorts the first `count` candidates into place, given that the first `sorted` already are.
void sort_first(std::vector<Candidate>& all, size_t sorted, size_t count) {
  const auto from = all.begin() + static_cast<ptrdiff_t>(sorted);
  const auto to = all.begin() + static_cast<ptrdiff_t>(count);
  if (to != all.end()) std::nth_element(from, to, all.end());
  std::sort(from, to);
}

// Leaves the fewest most likely candidates whose probability reaches top_p. The first `sorted` are
// in order already.
void keep_nucleus(std::vector<Candidate>& all, size_t sorted, float most, float top_p) {
  double total = 0, reached = 0;
  for (const Candidate& c : all) total += static_cast<double>(std::exp(c.logit - most));
  for (size_t i = 0; i < all.size(); ++i) {
    if (i == sorted) {
      const size_t next = std::min(all.size(), std::max<size_t>(64, 8 * sorted));
      sort_first(all, sorted, next);
      sorted = next;
    }
    reached += static_cast<double>(std::exp(all[i].logit - most));
    if (reached >= static_cast<double>(top_p) * total) {
      all.resize(i + 1);
      return;
    }
  }
}

// The first index at which the sum of the weights passes `share` of their total; `otherwise` if
// rounding leaves none.
int32_t pick(std::span<const float> weights, float share, int32_t otherwise) {
  double total = 0;
  for (const float weight : weights) total += static_cast<double>(weight);
  double left = total * static_cast<double>(share);
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= static_cast<double>(weights[i]);
    if (left < 0) return static_cast<int32_t>(i);
  }
  return otherwise;
}

int32_t draw(const Sample& op, int64_t row) {
  const Sampling& how = op.rows[static_cast<size_t>(row)];
  const int32_t likeliest = first_largest(op.slices, row);
  if (!(how.temperature > 0)) return likeliest;
  std::vector<float> logits = tempered(op.slices, row, how.temperature);
  const float most = logits[static_cast<size_t>(likeliest)];
  if (!std::isfinite(most)) return likeliest;
  const RandomSource source(how.seed, RandomStream::sampling);
  const float share = source.uniform(static_cast<uint64_t>(how.position), 0);
  const size_t count =
      how.top_k > 0 ? std::min(static_cast<size_t>(how.top_k), logits.size()) : logits.size();
  if (count == logits.size() && how.top_p >= 1) {
    for (float& logit : logits) {
      if (std::isnan(logit)) logit = minus_infinity;
    }
    const Numbers weights = numbers(logits.data());
    shifted_exp(1, weights, most, weights, static_cast<int64_t>(count));
    return pick(logits, share, likeliest);
  }
  std::vector<Candidate> best = candidates_of(logits);
  if (count < best.size()) {
    sort_first(best, 0, count);
    best.resize(count);
  }
  if (how.top_p < 1) keep_nucleus(best, count < logits.size() ? count : 0, most, how.top_p);
  std::vector<float> weights;
  for (const Candidate& c : best) weights.push_back(std::exp(c.logit - most));
  return best[static_cast<size_t>(pick(weights, share, 0))].token;
}

void join_row(const JoinStatistics& op, int64_t row) {
  float most = minus_infinity, target = 0;
  for (const Tensor& part : op.parts) most = std::max(most, part.row<float>(row)[0]);
  float sum = 0;
  for (const Tensor& part : op.parts) {
    const float* s = part.row<float>(row);
    sum += s[1] * std::exp(s[0] - most);
    target += s[2];
  }
  const float logsumexp = most + std::log(sum);
  op.loss.row<float>(row)[0] = logsumexp;
  op.loss.row<float>(row)[1] = row_weight(op.row_weights, row) != 0 ? logsumexp - target : 0;
}

}  // namespace

void run(const VocabularyStatistics& op, int threads) {
  const int64_t cols = op.logits.cols;
  parallel_ranges(useful_threads(threads, op.logits.elements()), op.logits.rows,
                  [&](const Interval& rows) {
                    for (int64_t row = rows.begin; row < rows.end; ++row) {
                      const Numbers logits = numbers(op.logits, row);
                      const int64_t target = op.targets[static_cast<size_t>(row)];
                      float* s = op.statistics.row<float>(row);
                      s[0] = largest(logits, cols);
                      s[1] = sum_of_exp(logits, s[0], cols);
                      s[2] = target >= 0 && target < cols ? value_at(logits, target) : 0;
                    }
                  });
}

void run(const JoinStatistics& op, int) {
  for (int64_t row = 0; row < op.loss.rows; ++row) join_row(op, row);
}

void run(const VocabularyGradient& op, int threads) {
  const int64_t cols = op.logits.cols;
  const size_t row_size = static_cast<size_t>(cols * size_of(op.dlogits.dtype));
  parallel_ranges(
      useful_threads(threads, op.logits.elements()), op.logits.rows, [&](const Interval& rows) {
        for (int64_t row = rows.begin; row < rows.end; ++row) {
          const float weight = row_weight(op.row_weights, row);
          if (weight == 0) {
            std::fill_n(op.dlogits.row_bytes(row), row_size, std::byte{0});
            continue;
          }
          const Numbers logits = numbers(op.logits, row), gradient = numbers(op.dlogits, row);
          const float logsumexp = op.loss.row<float>(row)[0];
          shifted_exp(weight, logits, logsumexp, gradient, cols);
          const int64_t target = op.targets[static_cast<size_t>(row)];
          if (target < 0 || target >= cols) continue;
          const float p = std::exp(value_at(logits, target) - logsumexp);
          set_value(gradient, target, weight * (p - 1));
        }
      });
}

void run(const Sample& op, int threads) {
  parallel_items(threads, op.tokens.rows,
                 [&](int64_t row) { op.tokens.row<int32_t>(row)[0] = draw(op, row); });
}

}  // namespace tandem::cpu
