#include "tandem/model/rotary.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tandem {
namespace {

constexpr double turn = 2 * std::numbers::pi;

// Slow ones are divided by the factor, fast ones kept, those between blended.
void scale_llama3(const RopeScaling& s, std::vector<double>& radians) {
  for (double& f : radians) {
    const double turns = s.original_positions * f / turn;  // within the length of training
    const double kept =
        std::clamp((turns - s.slow_factor) / (s.fast_factor - s.slow_factor), 0.0, 1.0);
    f = (1 - kept) * f / s.factor + kept * f;
  }
}

// The same between two columns, those that turn fast_turns and slow_turns times.
void scale_yarn(const RopeScaling& s, double theta, std::vector<double>& radians) {
  const double width = 2 * static_cast<double>(radians.size());
  const auto column = [&](double turns) {
    return width * std::log(s.original_positions / (turns * turn)) / (2 * std::log(theta));
  };
  const double first = std::max(std::floor(column(s.fast_turns)), 0.0);
  double last = std::min(std::ceil(column(s.slow_turns)), width - 1);
  if (first == last) last += 0.001;
  for (size_t i = 0; i < radians.size(); ++i) {
    const double slow = std::clamp((static_cast<double>(i) - first) / (last - first), 0.0, 1.0);
    radians[i] = radians[i] / s.factor * slow + radians[i] * (1 - slow);
  }
}

double yarn_magnitude(double factor, double growth = 1) {
  return factor <= 1 ? 1 : 0.1 * growth * std::log(factor) + 1;
}

double rotated_magnitude(const RopeScaling& s) {
  if (s.magnitude > 0) return s.magnitude;
  if (s.rotated_growth > 0 && s.score_growth > 0)
    return yarn_magnitude(s.factor, s.rotated_growth) / yarn_magnitude(s.factor, s.score_growth);
  return yarn_magnitude(s.factor);
}

}  // namespace

RotaryFrequencies rotary_frequencies(const ModelConfig& config) {
  const int64_t width = config.rotated_dim();
  RotaryFrequencies result;
  for (int64_t i = 0; i < width / 2; ++i)
    result.radians.push_back(
        std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(width)));
  const RopeScaling& s = config.rope_scaling;
  switch (s.kind) {
    case RopeScaling::Kind::none:
      break;
    case RopeScaling::Kind::linear:
      for (double& f : result.radians) f /= s.factor;
      break;
    case RopeScaling::Kind::llama3:
      scale_llama3(s, result.radians);
      break;
    case RopeScaling::Kind::yarn:
      scale_yarn(s, config.rope_theta, result.radians);
      result.scale = rotated_magnitude(s);
      break;
  }
  return result;
}

double score_scale(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  const double plain = 1 / std::sqrt(static_cast<double>(config.head_dim));
  if (!config.latent_attention() || s.kind != RopeScaling::Kind::yarn) return plain;
  const double grown = yarn_magnitude(s.factor, s.score_growth);
  return plain * grown * grown;
}

}  // namespace tandem
