#include "tandem/trace/expert_load.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "tandem/base/error.h"
#include "tandem/trace/metrics.h"

namespace tandem {

void ExpertCounts::add(int layer, int expert, int64_t tokens) {
  TANDEM_CHECK(0 <= layer && layer < layers_ && 0 <= expert && expert < experts_,
               "layer {} of {}, expert {} of {}", layer, layers_, expert, experts_);
  tokens_[static_cast<size_t>(layer) * experts_ + expert] += tokens;
}

std::span<const int64_t> ExpertCounts::layer(int layer) const {
  TANDEM_CHECK(0 <= layer && layer < layers_, "layer {} of {}", layer, layers_);
  return std::span(tokens_).subspan(static_cast<size_t>(layer) * experts_, experts_);
}

std::vector<int64_t> ExpertCounts::total() const {
  std::vector<int64_t> sum(experts_);
  for (int l = 0; l < layers_; ++l) std::ranges::transform(sum, layer(l), sum.begin(), std::plus{});
  return sum;
}

ExpertLoad expert_load(std::span<const int64_t> tokens_by_expert) {
  ExpertLoad load;
  load.shares.assign(tokens_by_expert.size(), 0.0);
  load.tokens = std::reduce(tokens_by_expert.begin(), tokens_by_expert.end(), int64_t{0});
  if (load.tokens == 0) return load;

  const auto tokens = static_cast<double>(load.tokens);
  const auto experts = static_cast<double>(tokens_by_expert.size());
  for (size_t e = 0; e < load.shares.size(); ++e)
    load.shares[e] = static_cast<double>(tokens_by_expert[e]) / tokens;
  load.share_deviation = spread(load.shares).standard_deviation;

  const auto [least, most] = std::ranges::minmax(tokens_by_expert);
  load.max_over_mean = static_cast<double>(most) * experts / tokens;
  load.max_over_min = least == 0 ? std::numeric_limits<double>::infinity()
                                 : static_cast<double>(most) / static_cast<double>(least);
  const auto used = std::ranges::count_if(tokens_by_expert, [](int64_t n) { return n > 0; });
  load.used_share = static_cast<double>(used) / experts;
  return load;
}

std::vector<ExpertLoad> expert_load_by_layer(const ExpertCounts& counts) {
  std::vector<ExpertLoad> loads;
  for (int layer = 0; layer < counts.layers(); ++layer)
    loads.push_back(expert_load(counts.layer(layer)));
  return loads;
}

}  // namespace tandem
