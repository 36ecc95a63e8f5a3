#include "tandem/device/cpu/attention_step.h"

namespace tandem::cpu {
namespace {

int padded_rows(int64_t count) { return count > 16 ? 32 : 16; }

}  // namespace

void plain_step(const Engine& engine, const AttentionStep& step) {
  if (step.ahead) step.ahead->bring(step.lines_ahead);
  if (const auto& s = step.scores; s.keys)
    for (int64_t first = 0; first < s.keys->count; first += block_rows)
      engine.multiply({.a = s.keys->half[first / block_rows],
                       .rows = padded_rows(s.keys->count - first),
                       .b = s.queries,
                       .columns = s.columns,
                       .lines = s.keys->lines,
                       .c = (*s.to)[first]});
  if (step.weights.scores) softmax_weights(step.weights);
  if (const auto& v = step.values; v.features)
    for (int64_t first = 0; first < v.features->count; first += block_rows)
      engine.multiply({.a = packed_panel(v.features->at(first / block_rows)),
                       .rows = padded_rows(v.features->count - first),
                       .b = v.weights,
                       .columns = v.columns,
                       .lines = v.features->lines,
                       .c = v.sums[first],
                       .accumulate = v.begun});
}

}  // namespace tandem::cpu
