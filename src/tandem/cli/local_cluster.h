// This machine as a cluster: what `tandem calibrate` writes, and what predictions are held against.
#pragma once

#include "tandem/planner/measurement.h"

namespace tandem::cli {

// One device a thread, in one node. Measures operations with the store's weights on one thread, for
// some tens of seconds; `trains` adds those of training, which changes the weights.
Cluster calibrate_local(ParameterStore& store, int threads, bool trains);

}  // namespace tandem::cli
