// Predicted against measured step times on this machine. Used by one thread.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tandem/cluster/cluster.h"
#include "tandem/state/parameter_store.h"

namespace tandem::cli {

// Measures plans of one and two ranks, one thread each, and simulates them on `cluster`, which
// calibrate_local() has made of two threads; prints a table. `trains` adds training, which changes
// the weights.
nlohmann::json bench_prediction(ParameterStore& store, const Cluster& cluster, bool trains);

}  // namespace tandem::cli
