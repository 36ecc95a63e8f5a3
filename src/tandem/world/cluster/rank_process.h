// A process that holds ranks of other processes' worlds: joins a fleet and does what it is told.
#pragma once

#include <string>

namespace tandem {

// Returns when it is told to go. InputError where it is refused; WorldError where the process that
// leads is gone.
void run_rank_process(const std::string& address, int process, const std::string& secret);

}  // namespace tandem
