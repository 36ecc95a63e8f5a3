// A dense model as a mixture of copies of its network (sparse upcycling: Komatsuzaki et al., ICLR
// 2023). The weights of the chosen experts sum up to one, so it begins as the same function,
// whatever its routers do; training then parts the copies. Pure functions, safe from any thread.
#pragma once

#include <optional>

#include "tandem/model/parameters.h"

namespace tandem {

// In the family that transformers has for such a mixture, else Tandem's own. InputError for a model
// that is none of one expert a layer, or counts that make no mixture.
ModelConfig upcycled(const ModelConfig& dense, int64_t experts, int64_t top_k);

// Which parameter of the dense model this one of the mixture begins as; none for a router, which
// begins at random.
std::optional<ParameterId> origin_of(const ParameterId& id);

}  // namespace tandem
