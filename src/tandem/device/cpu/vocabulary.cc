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

std::vector<Candidate> candidates_of(std::span<const Tensor> slices, int64_t row,
                                     float temperature) {
  std::vector<Candidate> all;
  for (const Tensor& slice : slices) {
    const float* logits = slice.row<float>(row);
    for (int64_t i = 0; i < slice.cols; ++i) {
      const float scaled = logits[i] / temperature;
      all.push_back(
          {std::isnan(scaled) ? minus_infinity : scaled, static_cast<int32_t>(all.size())});
    }
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

// Leaves the fewest most likely candidates whose probability reaches top_p.
void keep_nucleus(std::vector<Candidate>& all, size_t sorted, float most, float top_p) {
  double total = 0;
  for (const Candidate& c : all) total += std::exp(static_cast<double>(c.logit - most));
  double reached = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i == sorted) {
      const size_t next = std::min(all.size(), std::max<size_t>(64, 8 * sorted));
      sort_first(all, sorted, next);
      sorted = next;
    }
    reached += std::exp(static_cast<double>(all[i].logit - most));
    if (reached >= static_cast<double>(top_p) * total) {
      all.resize(i + 1);
      return;
    }
  }
}

int32_t draw(const Sample& op, int64_t row) {
  const Sampling& how = op.rows[static_cast<size_t>(row)];
  const int32_t likeliest = first_largest(op.slices, row);
  if (!(how.temperature > 0)) return likeliest;
  std::vector<Candidate> all = candidates_of(op.slices, row, how.temperature);
  const float most = all[static_cast<size_t>(likeliest)].logit;
  if (!std::isfinite(most)) return likeliest;
  size_t sorted = 0;
  if (how.top_k > 0 && static_cast<size_t>(how.top_k) < all.size()) {
    sorted = static_cast<size_t>(how.top_k);
    sort_first(all, 0, sorted);
    all.resize(sorted);
  }
  if (how.top_p < 1) keep_nucleus(all, sorted, most, how.top_p);

  double total = 0;
  for (const Candidate& c : all) total += std::exp(static_cast<double>(c.logit - most));
  const RandomSource source(how.seed, RandomStream::sampling);
  double left = total * static_cast<double>(source.uniform(static_cast<uint64_t>(how.position), 0));
  for (const Candidate& c : all) {
    left -= std::exp(static_cast<double>(c.logit - most));
    if (left < 0) return c.token;
  }
  return likeliest;
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
