// Which experts tokens go to, where no router computes it: drawn from a distribution, or as a real
// run recorded them.
#pragma once

#include <string>

#include "tandem/device/sim/sim_device.h"
#include "tandem/model/config.h"

namespace tandem {

// "uniform", or "zipf:A": the i-th busiest of E experts gets tokens in proportion to (i + 1)^-A;
// which expert that is differs from layer to layer. Experts of a token are drawn one after the
// other, without putting back. InputError for anything else.
Routing make_routing(const std::string& text, const ModelConfig& model, uint64_t seed);

}  // namespace tandem
