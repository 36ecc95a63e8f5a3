#include "tandem/planner/contexts.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numbers>
#include <numeric>

#include "tandem/base/error.h"
#include "tandem/base/number_list.h"
#include "tandem/base/random.h"

namespace tandem {

std::vector<double> draw_context_shape(int64_t sequences, double spread, double most,
                                       uint64_t seed) {
  const RandomSource random(seed, RandomStream::prompts, 1);
  const double sigma = std::sqrt(std::log1p(spread * spread));
  std::vector<double> shape;
  for (int64_t s = 0; s < sequences; ++s) {
    // Box and Muller's way to a normal number out of two even ones.
    const double radius = std::sqrt(-2 * std::log1p(-double{random.uniform(s, 0)}));
    const double normal = radius * std::cos(2 * std::numbers::pi * double{random.uniform(s, 1)});
    shape.push_back(std::exp(sigma * normal));
  }
  // What is cut off lowers the mean, and raising it makes some more too long.
  constexpr int rounds = 32;
  for (int round = 0; round < rounds; ++round) {
    const double sum = std::accumulate(shape.begin(), shape.end(), 0.0);
    for (double& context : shape)
      context = std::min(most, context * static_cast<double>(sequences) / sum);
  }
  return shape;
}

std::vector<int64_t> read_contexts(const std::string& file) {
  std::ifstream stream(file);
  if (!stream) throw InputError("--contexts {}: cannot be read", file);
  std::vector<int64_t> contexts;
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    const auto parsed = parse_numbers<int64_t>(line);
    if (!parsed || std::ranges::any_of(*parsed, [](int64_t tokens) { return tokens < 1; }))
      throw InputError("--contexts {}, line {}: expected numbers of tokens, each at least 1", file,
                       number);
    contexts.insert(contexts.end(), parsed->begin(), parsed->end());
  }
  if (contexts.empty()) throw InputError("--contexts {}: has no number", file);
  return contexts;
}

}  // namespace tandem
