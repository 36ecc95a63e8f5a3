// Keeps the ranks of a running engine at one pace: watches how long they take, learns to predict
// it, and moves heads, experts and ranks when that pays. Used by the engine's thread.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "tandem/balance/rebalance.h"
#include "tandem/world/engine.h"

namespace tandem {

struct BalanceSettings {
  int64_t every_steps = 100;
  double threshold = 0.05;  // of the time of a step, to be gained by a move
  AttentionBounds bounds;
  double pays_within_steps = 1000;  // a move has to be paid for by then
  uint64_t seed = 0;                // of the network's first weights
};

// What one look has found.
struct BalanceRecord {
  int64_t step = 0;         // done so far
  double step_seconds = 0;  // mean of the interval, measured
  // What the models say of attention and of experts, summed over layers, each at its slowest rank.
  double attention_seconds = 0, expert_seconds = 0;
  double imbalance = 0;  // of the busiest rank, above the mean of all
  // Predicted, as a share of the predicted step: by the model that is less sure of it.
  double gain = 0;
  bool moved = false;
  std::string what;  // moves, or is in the way
  double move_seconds = 0, move_bytes = 0;
  // Of predictions made before the interval; of the first what the linear model leaves open, and 0.
  double linear_error = 0, network_error = 0;
};

class Balancer {
 public:
  // The engine must outlive it.
  Balancer(Engine& engine, const BalanceSettings& settings);

  // After every step: every so many it looks, and moves if that pays. StateLost, WorldError as
  // Engine::move_to.
  std::optional<BalanceRecord> after_step();

 private:
  // Of the last intervals.
  struct Samples {
    std::deque<std::vector<TimedWork>> intervals;
    // All of them, with these.
    std::vector<TimedWork> with(std::vector<TimedWork> newest);
  };
  // One lane's models and what they have been taught with.
  struct Learner {
    explicit Learner(uint64_t seed) : network(seed) {}
    LinearTimeModel linear;
    NetworkTimeModel network;
    Samples samples;
    double linear_error = 0, network_error = 0;
    bool fitted = false;
    void learn(std::vector<TimedWork> newest);
  };
  // Seconds of a step, [rank][layer of the model + 1]: as Observation, of all steps.
  using StepSeconds = std::vector<std::vector<double>>;

  // Of this interval, and of those before with half the weight of the next.
  StepLoad smoothed_load(const Observation& seen);
  void learn(const StepSeconds& attention, const StepSeconds& experts, const PlanWork& work);
  void move_if_it_pays(const StepLoad& load, BalanceRecord& record);

  Engine& engine_;
  BalanceSettings settings_;
  RecentMoves recent_;
  Learner attention_, experts_;
  Samples apart_samples_;  // of what is done outside of layers
  LinearTimeModel apart_;
  std::vector<double> slowness_;       // by rank
  std::vector<double> expert_tokens_;  // [layer][expert], smoothed
  int64_t steps_ = 0, steps_of_interval_ = 0;
  double interval_start_seconds_ = 0;
  // Of a move; measured from the first on, which is taken to be cheap: else there might be none.
  double bytes_per_second_ = 1e11;
};

// "2 heads, 5 experts, 1 rank": how many places of each differ.
std::string describe_move(const Plan& before, const Plan& after, const ModelConfig& model);

}  // namespace tandem
