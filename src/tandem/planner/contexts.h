// Contexts of sequences that are not all alike, as shares of their mean (Workload::context_shape).
// Pure functions, safe from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tandem {

// Drawn from a log-normal distribution, as lengths of texts mostly are, and scaled so that their
// mean is 1. `spread` is the standard deviation; what is above `most` is cut off. Both are shares
// of the mean, `most` at least 1.
std::vector<double> draw_context_shape(int64_t sequences, double spread, double most,
                                       uint64_t seed);

// Tokens of each sequence, as recorded: numbers, with commas or line breaks between them.
// InputError naming file and line.
std::vector<int64_t> read_contexts(const std::string& file);

}  // namespace tandem
