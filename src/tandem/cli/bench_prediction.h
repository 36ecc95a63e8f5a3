// Predicted against measured step times on this machine. Used by one thread.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "tandem/cli/local_cluster.h"

namespace tandem::cli {

// Measures plans of one and two ranks, one thread each, in turn with the calibration, and simulates
// them on the cluster that comes of it; prints a table. `trains` adds training, which changes the
// weights.
nlohmann::json bench_prediction(ParameterStore& store, LocalCalibration& calibration, bool trains);

}  // namespace tandem::cli
