#include <algorithm>
#include <cmath>

#include "tandem/balance/time_model.h"
#include "tandem/base/random.h"

namespace tandem {
namespace {

constexpr size_t inputs = 6, hidden = 16;
constexpr int passes_of_fit = 20'000;  // forward and backward passes of one sample, at most
constexpr double learning_rate = 0.01, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8;

using Input = std::array<double, inputs>;

// Logarithms, of the size of 1.
Input input_of(const LayerWork& work, double slowness) {
  return {std::log1p(work.context_tokens) / 8, std::log1p(work.hidden) / 8,
          std::log1p(work.tokens) / 4,         std::log1p(work.active) / 2,
          std::log1p(work.held) / 2,           std::log(slowness)};
}

// A number that is learnt, with Adam's moments.
struct Weight {
  double value = 0, gradient = 0, first = 0, second = 0;
};

}  // namespace

class NetworkTimeModel::Network {
 public:
  explicit Network(uint64_t seed) {
    const RandomSource random(seed, RandomStream::initial_weights);
    uint64_t index = 0;
    const auto fill = [&](auto& weights, double most) {
      for (Weight& w : weights) w.value = most * (2 * double{random.uniform(0, index++)} - 1);
    };
    fill(first_, 1.0 / std::sqrt(double{inputs}));
    fill(second_, 1.0 / std::sqrt(double{hidden}));
    fill(third_, 1.0 / std::sqrt(double{hidden}));
  }

  double forward(const Input& x) {
    x_ = x;
    for (size_t i = 0; i < hidden; ++i) {
      double sum = first_[i * (inputs + 1) + inputs].value;
      for (size_t j = 0; j < inputs; ++j) sum += first_[i * (inputs + 1) + j].value * x[j];
      a_[i] = std::tanh(sum);
    }
    for (size_t i = 0; i < hidden; ++i) {
      double sum = second_[i * (hidden + 1) + hidden].value;
      for (size_t j = 0; j < hidden; ++j) sum += second_[i * (hidden + 1) + j].value * a_[j];
      b_[i] = std::tanh(sum);
    }
    double y = third_[hidden].value;
    for (size_t i = 0; i < hidden; ++i) y += third_[i].value * b_[i];
    return y + mean_;
  }

  // After forward(): adds to the gradients.
  void backward(double dy) {
    std::array<double, hidden> da{};
    third_[hidden].gradient += dy;
    for (size_t i = 0; i < hidden; ++i) {
      third_[i].gradient += dy * b_[i];
      const double db = dy * third_[i].value * (1 - b_[i] * b_[i]);
      second_[i * (hidden + 1) + hidden].gradient += db;
      for (size_t j = 0; j < hidden; ++j) {
        second_[i * (hidden + 1) + j].gradient += db * a_[j];
        da[j] += db * second_[i * (hidden + 1) + j].value;
      }
    }
    for (size_t i = 0; i < hidden; ++i) {
      const double d = da[i] * (1 - a_[i] * a_[i]);
      first_[i * (inputs + 1) + inputs].gradient += d;
      for (size_t j = 0; j < inputs; ++j) first_[i * (inputs + 1) + j].gradient += d * x_[j];
    }
  }

  void step() {
    ++steps_;
    const double correct1 = 1 - std::pow(beta1, steps_), correct2 = 1 - std::pow(beta2, steps_);
    const auto update = [&](auto& weights) {
      for (Weight& w : weights) {
        w.first = beta1 * w.first + (1 - beta1) * w.gradient;
        w.second = beta2 * w.second + (1 - beta2) * w.gradient * w.gradient;
        w.value -= learning_rate * w.first / correct1 / (std::sqrt(w.second / correct2) + epsilon);
        w.gradient = 0;
      }
    };
    update(first_), update(second_), update(third_);
  }

  bool fresh() const { return steps_ == 0; }
  void set_mean(double mean) { mean_ = mean; }

 private:
  std::array<Weight, hidden*(inputs + 1)> first_;
  std::array<Weight, hidden*(hidden + 1)> second_;
  std::array<Weight, hidden + 1> third_;
  Input x_{};
  std::array<double, hidden> a_{}, b_{};
  double mean_ = 0;
  int steps_ = 0;
};

NetworkTimeModel::NetworkTimeModel(uint64_t seed) : network_(std::make_unique<Network>(seed)) {}
NetworkTimeModel::~NetworkTimeModel() = default;

double NetworkTimeModel::seconds(const LayerWork& work, double slowness) const {
  return work.empty() ? 0 : std::exp(network_->forward(input_of(work, slowness)));
}

void NetworkTimeModel::fit(const std::vector<TimedWork>& samples) {
  std::vector<const TimedWork*> used;
  double mean = 0;
  for (const TimedWork& sample : samples)
    if (!sample.work.empty() && sample.seconds > 0) {
      used.push_back(&sample);
      mean += std::log(sample.seconds);
    }
  if (used.empty()) return;
  const auto count = static_cast<double>(used.size());
  if (network_->fresh()) network_->set_mean(mean / count);
  const auto rounds = std::max<size_t>(1, passes_of_fit / used.size());
  for (size_t round = 0; round < rounds; ++round) {
    for (const TimedWork* sample : used) {
      const double y = network_->forward(input_of(sample->work, sample->slowness));
      network_->backward((y - std::log(sample->seconds)) / count);
    }
    network_->step();
  }
}

}  // namespace tandem
