// The wall clock of this machine, for durations; the same in every thread.
#pragma once

#include <chrono>

namespace tandem {

inline double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace tandem
