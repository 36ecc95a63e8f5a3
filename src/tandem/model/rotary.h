// How fast rotary positions turn.
#pragma once

#include <vector>

#include "tandem/model/config.h"

namespace tandem {

struct RotaryFrequencies {
  std::vector<double> radians;  // a position, for each pair of rotated columns
  double scale = 1;             // of cosines and sines
};

// theta^(-2 i / d), or what rope_scaling makes of it: linear (Chen et al., 2023), llama3, or YaRN
// (Peng et al., 2023), all as transformers computes them.
RotaryFrequencies rotary_frequencies(const ModelConfig& config);

// What products of queries and keys are multiplied by: 1 / sqrt(d), and what DeepSeek's YaRN adds.
double score_scale(const ModelConfig& config);

}  // namespace tandem
