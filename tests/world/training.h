// Batches to train on, and what comes of them.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "world/models.h"

namespace tandem::test {

inline constexpr int64_t length = 37;

inline TrainingBatch random_batch(const ModelConfig& model, int64_t sequences, uint64_t seed) {
  TrainingBatch batch{.sequences = sequences, .sequence_tokens = length};
  for (int64_t s = 0; s < sequences; ++s) {
    const auto tokens = random_tokens(seed, s, length + 1, model.vocab_size);
    batch.inputs.insert(batch.inputs.end(), tokens.begin(), tokens.end() - 1);
    batch.targets.insert(batch.targets.end(), tokens.begin() + 1, tokens.end());
    for (int64_t i = 0; i < length; ++i)  // the end of every third sequence is padding
      batch.weights.push_back(s % 3 == 2 && i > length - 9 ? 0.0f : 1.0f);
  }
  return batch;
}

// Gradients of all parameters, put together from the pieces of all ranks.
inline std::map<ParameterId, std::vector<float>> collect_gradients(Engine& engine) {
  std::map<ParameterId, std::vector<float>> result;
  std::map<ParameterId, int64_t> widths;
  for (const Parameter& p : parameters(engine.model())) {
    result[p.id].assign(p.elements(), NAN);
    widths[p.id] = p.cols;
  }
  engine.fetch(PieceState::gradient, [&](const Region& region, const Tensor& gradient) {
    for (int64_t row = region.rows.begin; row < region.rows.end; ++row)
      std::memcpy(&result[region.id][row * widths[region.id] + region.cols.begin],
                  gradient.row<float>(row - region.rows.begin), 4 * region.cols.size());
  });
  return result;
}

// Experts start on part of a batch in inference alone.
inline std::vector<std::string> training_plans() {
  std::vector<std::string> plans = inference_plans();
  std::erase_if(plans, [](const std::string& plan) { return plan.find("partial") != plan.npos; });
  return plans;
}

}  // namespace tandem::test
