// This machine as a cluster: what `tandem calibrate` writes, and what predictions are held against.
#pragma once

#include "tandem/planner/measurement.h"

namespace tandem::cli {

// Measures operations with the store's weights, in rounds, so that other measurements can take
// turns with it: a machine whose speed drifts then drifts for both.
class LocalCalibration {
 public:
  // Each round on one thread, and on all threads at once.
  LocalCalibration(ParameterStore& store, int threads);

  void infer();
  void train();  // changes the weights
  // One device a thread, in one node, from all rounds so far.
  Cluster cluster() const;

 private:
  std::vector<RankSpans> spans(bool crowded) const;

  int threads_;
  std::vector<Measurement> inference_[2], training_[2];  // alone, crowded
};

// Training takes ten times as long as inference, and its operations vary less.
inline constexpr int inferences_a_training = 5;

}  // namespace tandem::cli
