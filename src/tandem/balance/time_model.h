// Seconds of a rank in a layer from what it has to do, learnt from what was measured: a linear
// model, as the papers print one, and a small neural network, as they describe one. Used by one
// thread.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "tandem/balance/work.h"

namespace tandem {

struct TimedWork {
  LayerWork work;
  double slowness = 1;  // of the rank's device, beside the others'
  double seconds = 0;
};

class TimeModel {
 public:
  virtual ~TimeModel() = default;
  virtual void fit(const std::vector<TimedWork>& samples) = 0;
  // Once fitted.
  virtual double seconds(const LayerWork& work, double slowness) const = 0;
};

// seconds = slowness * (c0 + c1 tokens + c2 active + c3 active x tokens x context + c4 held), c >=
// 0: least squares of relative errors. A generalisation of T_attention = c0 + c1 n + c2 H and T_moe
// = c0 + c1 F + c2 active experts, whose n, H and F are constant while a model runs.
class LinearTimeModel final : public TimeModel {
 public:
  void fit(const std::vector<TimedWork>& samples) override;
  double seconds(const LayerWork& work, double slowness) const override;

  static constexpr size_t terms = 5;

 private:
  std::array<double, terms> coefficients_{};
};

// log(seconds) by a network of three layers (6 - 16 - 16 - 1, tanh) of the logarithms of sequence
// length, hidden size, tokens, experts (or heads), active ones, and slowness; trained by Adam.
// Keeps what it has learnt from one fit to the next.
class NetworkTimeModel final : public TimeModel {
 public:
  explicit NetworkTimeModel(uint64_t seed);
  ~NetworkTimeModel() override;
  void fit(const std::vector<TimedWork>& samples) override;
  double seconds(const LayerWork& work, double slowness) const override;

 private:
  class Network;
  std::unique_ptr<Network> network_;
};

// Median of |predicted - measured| / measured; 0 of none.
double relative_error(const TimeModel& model, const std::vector<TimedWork>& samples);

}  // namespace tandem
