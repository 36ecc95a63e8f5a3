// This machine as a cluster: what `tandem calibrate` writes, and what predictions are held against.
#pragma once

#include "tandem/planner/measurement.h"

namespace tandem::cli {

// Measures operations with the store's weights, in rounds of some seconds, so that other
// measurements can take turns with it: a machine whose speed drifts then drifts for both.
class LocalCalibration {
 public:
  // `trains` adds operations of training, which changes the weights.
  LocalCalibration(ParameterStore& store, bool trains) : store_(store), trains_(trains) {}

  void round();
  // One device a thread, in one node, from all rounds so far.
  Cluster cluster(int threads) const;

 private:
  ParameterStore& store_;
  bool trains_;
  std::vector<RankSpans> spans_;
};

}  // namespace tandem::cli
