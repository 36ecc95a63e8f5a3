// Timelines in the Chrome trace event format, for ui.perfetto.dev or chrome://tracing: a process a
// rank, a thread a lane (and further threads for spans that overlap others of their lane).
#pragma once

#include <filesystem>
#include <span>

#include "tandem/trace/metrics.h"

namespace tandem {

// Writes all spans to `file`, event by event; times are microseconds since the first span.
// WorldError where it cannot be written whole; an incomplete file is removed.
void write_perfetto(const std::filesystem::path& file, std::span<const RankSpans> ranks);

}  // namespace tandem
