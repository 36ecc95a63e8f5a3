// What this process runs on, for reports.
#pragma once

#include <string>

namespace tandem::cli {

// "AMD EPYC 9B45, 2 cores"; the processor's name is as Linux tells it.
std::string machine_name();

}  // namespace tandem::cli
