// How evenly tokens spread over experts. Pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem {

// Tokens sent to each expert of each layer. Not synchronised.
class ExpertCounts {
 public:
  ExpertCounts(int layers, int experts)
      : layers_(layers), experts_(experts), tokens_(static_cast<size_t>(layers) * experts) {}

  int layers() const { return layers_; }
  int experts() const { return experts_; }
  void add(int layer, int expert, int64_t tokens);
  std::span<const int64_t> layer(int layer) const;
  std::vector<int64_t> total() const;  // [experts], over all layers

 private:
  int layers_;
  int experts_;
  std::vector<int64_t> tokens_;  // [layers, experts]
};

struct ExpertLoad {
  int64_t tokens = 0;
  std::vector<double> shares;  // of the tokens, one an expert; zeros where there are none
  double share_deviation = 0;  // standard deviation of the shares (population)
  double max_over_mean = 0;    // 1 when even; 0 where there are no tokens
  double max_over_min = 0;     // infinity where an expert got none
  double used_share = 0;       // of the experts, those with a token at least
};

// Of the experts of one layer (or of any other set).
ExpertLoad expert_load(std::span<const int64_t> tokens_by_expert);

// One entry a layer.
std::vector<ExpertLoad> expert_load_by_layer(const ExpertCounts& counts);

}  // namespace tandem
