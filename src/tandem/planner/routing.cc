#include "tandem/planner/routing.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <vector>

#include "tandem/base/number_list.h"
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
    throw InputError("--routing {}: expected uniform, zipf:A with A at or above zero, or a file",
                     text);
  return exponent;
}

class DrawnRouting {
 public:
  DrawnRouting(double exponent, const ModelConfig& model, uint64_t seed) : seed_(seed) {
    for (int64_t i = 0; i < model.experts; ++i)
      ends_.push_back((ends_.empty() ? 0 : ends_.back()) +
                      std::pow(static_cast<double>(i + 1), -exponent));
    size_t place = 0;
    for (size_t bucket = 0; bucket < ends_.size(); ++bucket) {
      while (place + 1 < ends_.size() && ends_[place] <= first_point(bucket)) ++place;
      starts_.push_back(place);
    }
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
    std::array<uint32_t, 4> bits{};
    for (size_t k = 0; k < experts.size(); ++k) {
      const auto chosen = experts.first(k);
      do {
        if (draw % 4 == 0) bits = random.block(token_key, draw / 4);
        experts[k] = order[place_of(double{unit_float(bits[draw++ % 4])})];
      } while (std::ranges::find(chosen, experts[k]) != chosen.end());
    }
  }

 private:
  double first_point(size_t bucket) const {
    return ends_.back() * static_cast<double>(bucket) / static_cast<double>(ends_.size());
  }
  // The first place whose end is above this share of all. Large simulations spend much of their
  // time on drawing, hence the buckets to start from.
  size_t place_of(double share) const {
    const double point = share * ends_.back();
    const auto bucket = static_cast<size_t>(share * static_cast<double>(ends_.size()));
    size_t place = starts_[std::min(bucket, starts_.size() - 1)];
    while (place > 0 && ends_[place - 1] > point) --place;
    while (place + 1 < ends_.size() && ends_[place] <= point) ++place;
    return place;
  }

  uint64_t seed_;
  std::vector<double> ends_;    // of each place's share, in order
  std::vector<size_t> starts_;  // place of the first point of each of as many even buckets
  std::vector<std::vector<int32_t>> orders_;
};

class RecordedRouting {
 public:
  RecordedRouting(const ModelConfig& model, uint64_t seed)
      : layers_(static_cast<size_t>(model.layers)),
        dense_layers_(model.dense_layers),
        top_k_(model.top_k),
        seed_(seed) {}

  // layer, slot, position, experts.
  void add(std::span<const int32_t> n) {
    Layer& layer = layers_[static_cast<size_t>(n[0])];
    const uint64_t key = static_cast<uint64_t>(n[1]) << 32 | static_cast<uint64_t>(n[2]);
    if (!layer.index.try_emplace(key, layer.keys.size()).second) return;
    layer.keys.push_back(key);
    layer.experts.insert(layer.experts.end(), n.begin() + 3, n.end());
  }
  // -1: every layer with experts has a token.
  int64_t empty_layer() const {
    const auto found = std::find_if(layers_.begin() + dense_layers_, layers_.end(),
                                    [](const Layer& layer) { return layer.keys.empty(); });
    return found == layers_.end() ? -1 : found - layers_.begin();
  }

  void operator()(int64_t layer, uint64_t token_key, std::span<int32_t> experts) const {
    const Layer& one = layers_[static_cast<size_t>(layer)];
    const auto known = one.index.find(token_key);
    const RandomSource random(seed_, RandomStream::routing, 0, static_cast<uint32_t>(layer));
    const size_t at =
        known != one.index.end() ? known->second : random.bits(token_key, 0) % one.keys.size();
    std::copy_n(one.experts.begin() + static_cast<ptrdiff_t>(at) * top_k_, experts.size(),
                experts.begin());
  }

 private:
  struct Layer {
    std::vector<uint64_t> keys;
    std::unordered_map<uint64_t, size_t> index;
    std::vector<int32_t> experts;
  };
  std::vector<Layer> layers_;
  int64_t dense_layers_, top_k_;
  uint64_t seed_;
};

std::vector<int32_t> parse_line(const std::string& text, const ModelConfig& model,
                                const std::string& where) {
  const auto parsed = parse_numbers<int32_t>(text);
  if (!parsed || std::ranges::any_of(*parsed, [](int32_t value) { return value < 0; }))
    throw InputError("{}: expected numbers and commas", where);
  const std::vector<int32_t>& numbers = *parsed;
  if (std::ssize(numbers) != 3 + model.top_k)
    throw InputError("{}: expected layer, slot, position and {} experts", where, model.top_k);
  if (numbers[0] >= model.layers)
    throw InputError("{}: layer {} of {}", where, numbers[0], model.layers);
  for (size_t i = 3; i < numbers.size(); ++i)
    if (numbers[i] >= model.experts)
      throw InputError("{}: expert {} of {}", where, numbers[i], model.experts);
  return numbers;
}

RecordedRouting read_routing(const std::string& file, const ModelConfig& model, uint64_t seed) {
  std::ifstream stream(file);
  if (!stream) throw InputError("--routing {}: cannot be read", file);
  RecordedRouting routing(model, seed);
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);)
    routing.add(parse_line(line, model, fmt::format("--routing {}, line {}", file, ++number)));
  if (routing.empty_layer() >= 0)
    throw InputError("--routing {}: has no token of layer {}", file, routing.empty_layer());
  return routing;
}

template <class Source>
Routing share(Source source) {
  return [shared = std::make_shared<const Source>(std::move(source))](
             int64_t layer, uint64_t token_key, std::span<int32_t> experts) {
    (*shared)(layer, token_key, experts);
  };
}

}  // namespace

std::string routing_csv(std::span<const int32_t> routing, int64_t top_k) {
  const auto width = static_cast<size_t>(3 + top_k);
  std::string text;
  for (; !routing.empty(); routing = routing.subspan(width))
    text += fmt::format("{}\n", fmt::join(routing.first(width), ","));
  return text;
}

Routing recorded_routing(std::span<const int32_t> routing, const ModelConfig& model,
                         uint64_t seed) {
  RecordedRouting recorded(model, seed);
  const auto width = static_cast<size_t>(3 + model.top_k);
  for (; !routing.empty(); routing = routing.subspan(width)) recorded.add(routing.first(width));
  TANDEM_CHECK(recorded.empty_layer() < 0, "layer {} was not recorded", recorded.empty_layer());
  return share(std::move(recorded));
}

Routing make_routing(const std::string& text, const ModelConfig& model, uint64_t seed) {
  if (std::filesystem::exists(text)) return share(read_routing(text, model, seed));
  return share(DrawnRouting(parse_exponent(text), model, seed));
}

}  // namespace tandem
