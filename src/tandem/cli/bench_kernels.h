// Single operations, with the sizes of a model.
#pragma once

#include "tandem/cli/bench_figures.h"
#include "tandem/state/parameter_store.h"

namespace tandem::cli {

// Products of 512 rows and more and of a few rows, the experts of a layer, attention.
void bench_kernels(Bench& bench, const ParameterStore& store, Device& device);

}  // namespace tandem::cli
