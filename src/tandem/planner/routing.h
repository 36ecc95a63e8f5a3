// Which experts tokens go to, where no router computes it: drawn from a distribution, or as a real
// run recorded them.
#pragma once

#include <string>

#include "tandem/device/sim/sim_device.h"
#include "tandem/model/config.h"

namespace tandem {

// "uniform"; or "zipf:A": the i-th busiest of E experts gets tokens in proportion to (i + 1)^-A
// (which expert that is differs from layer to layer), and a token's experts are drawn one after the
// other, without putting back; or a file that `tandem generate --record-routing` wrote: a token
// that it does not know goes where a recorded one of its layer went, drawn by the seed. InputError
// for anything else.
Routing make_routing(const std::string& text, const ModelConfig& model, uint64_t seed);
// The same from what Engine::routing() has.
Routing recorded_routing(std::span<const int32_t> routing, const ModelConfig& model, uint64_t seed);

// The text of such a file: a line a token and layer, "layer,slot,position,expert,...". `routing` as
// Engine::routing() has it.
std::string routing_csv(std::span<const int32_t> routing, int64_t top_k);

}  // namespace tandem
