#include "tandem/planner/routing.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "tandem/base/random.h"

namespace tandem {
namespace {

double parse_exponent(const std::string& text) {
  if (text == "uniform") return 0;
  constexpr std::string_view prefix = "zipf:";
  size_t used = 0;
  double exponent = -1;
  if (text.starts_with(prefix)) {
    try {
      exponent = std::stod(text.substr(prefix.size()), &used);
    } catch (const std::exception&) {
      used = 0;
    }
  }
  if (used == 0 || used + prefix.size() != text.size() || !(exponent >= 0) ||
      !std::isfinite(exponent))
    throw InputError("--routing {}: expected uniform, or zipf:A with A at or above zero", text);
  return exponent;
}

class DrawnRouting {
 public:
  DrawnRouting(double exponent, const ModelConfig& model, uint64_t seed) : seed_(seed) {
    for (int64_t i = 0; i < model.experts; ++i)
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) +
                      std::pow(static_cast<double>(i + 1), -exponent));
    for (int64_t layer = 0; layer < model.layers; ++layer) {
      auto& order = orders_.emplace_back(static_cast<size_t>(model.experts));
      std::iota(order.begin(), order.end(), 0);
      const RandomSource random(seed, RandomStream::routing_order, 0, static_cast<uint32_t>(layer));
      for (size_t i = order.size() - 1; i > 0; --i)
        std::swap(order[i], order[random.bits(i, 0) % (i + 1)]);
    }
  }

  void operator()(int64_t layer, uint64_t token_key, std::span<int32_t> experts) const {
    const RandomSource random(seed_, RandomStream::routing, 0, static_cast<uint32_t>(layer));
    const auto& order = orders_[static_cast<size_t>(layer)];
    uint64_t draw = 0;
    for (size_t k = 0; k < experts.size(); ++k) {
      const auto chosen = experts.first(k);
      do {
        const double point = double{random.uniform(token_key, draw++)} * ends_.back();
        const auto found = std::ranges::upper_bound(ends_, point);
        const auto place = std::min<ptrdiff_t>(found - ends_.begin(), std::ssize(ends_) - 1);
        experts[k] = order[static_cast<size_t>(place)];
      } while (std::ranges::find(chosen, experts[k]) != chosen.end());
    }
  }

 private:
  uint64_t seed_;
  std::vector<double> ends_;  // of each place's share, in order
  std::vector<std::vector<int32_t>> orders_;
};

}  // namespace

Routing make_routing(const std::string& text, const ModelConfig& model, uint64_t seed) {
  const auto drawn = std::make_shared<const DrawnRouting>(parse_exponent(text), model, seed);
  return [drawn](int64_t layer, uint64_t token_key, std::span<int32_t> experts) {
    (*drawn)(layer, token_key, experts);
  };
}

}  // namespace tandem
