#include <algorithm>
#include <cmath>

#include "tandem/balance/time_model.h"
#include "tandem/trace/metrics.h"

namespace tandem {
namespace {

constexpr size_t terms = LinearTimeModel::terms;
using Features = std::array<double, terms>;
// How much a term is kept small, beside the squares of the errors. Where measurements cannot tell
// (all ranks have as many heads, say) it is what a rank has that takes time, not that it is there:
// who has twice as much shall be expected to take twice as long.
constexpr Features ridge{1e-2, 1e-3, 1e-5, 1e-5, 1e-5};

Features features_of(const LayerWork& work) {
  return {1, work.tokens, work.active, work.active * work.tokens * work.context_tokens, work.held};
}

}  // namespace

double LinearTimeModel::seconds(const LayerWork& work, double slowness) const {
  if (work.empty()) return 0;
  const Features x = features_of(work);
  double sum = 0;
  for (size_t i = 0; i < terms; ++i) sum += coefficients_[i] * x[i];
  return slowness * sum;
}

// Coordinate descent on the normal equations, each coefficient kept at or above zero. Features are
// scaled to their largest, so that the ridge means the same for each.
void LinearTimeModel::fit(const std::vector<TimedWork>& samples) {
  Features scale{}, right{};
  std::array<Features, terms> normal{};
  std::vector<Features> rows;
  for (const TimedWork& sample : samples) {
    if (sample.work.empty() || sample.seconds <= 0) continue;
    Features& row = rows.emplace_back(features_of(sample.work));
    for (double& x : row) x *= sample.slowness / sample.seconds;
    for (size_t i = 0; i < terms; ++i) scale[i] = std::max(scale[i], row[i]);
  }
  if (rows.empty()) return;
  for (const Features& row : rows)
    for (size_t i = 0; i < terms; ++i) {
      if (scale[i] == 0) continue;
      right[i] += row[i] / scale[i];
      for (size_t j = 0; j < terms; ++j)
        if (scale[j] > 0) normal[i][j] += row[i] / scale[i] * row[j] / scale[j];
    }
  Features c{};
  const auto count = static_cast<double>(rows.size());
  for (int round = 0; round < 2000; ++round)
    for (size_t i = 0; i < terms; ++i) {
      if (scale[i] == 0) continue;
      double rest = right[i];
      for (size_t j = 0; j < terms; ++j)
        if (j != i) rest -= normal[i][j] * c[j];
      c[i] = std::max(0.0, rest / (normal[i][i] + ridge[i] * count));
    }
  for (size_t i = 0; i < terms; ++i) coefficients_[i] = scale[i] > 0 ? c[i] / scale[i] : 0;
}

double relative_error(const TimeModel& model, const std::vector<TimedWork>& samples) {
  std::vector<double> errors;
  for (const TimedWork& sample : samples)
    if (!sample.work.empty() && sample.seconds > 0)
      errors.push_back(std::abs(model.seconds(sample.work, sample.slowness) - sample.seconds) /
                       sample.seconds);
  return median(std::move(errors));
}

}  // namespace tandem
