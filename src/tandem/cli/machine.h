// What this process runs on, for reports.
#pragma once

#include <cstdint>
#include <string>

namespace tandem::cli {

// "AMD EPYC 9B45, 2 cores"; the processor's name is as Linux tells it.
std::string machine_name();

// A line of /proc/meminfo ("MemTotal", "MemAvailable"); 0 where there is none.
int64_t memory_bytes(const std::string& line);

}  // namespace tandem::cli
