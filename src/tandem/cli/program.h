// The program behind the command line.
#pragma once

#include <string>
#include <vector>

#include "tandem/world/cluster/fleet.h"

namespace tandem::cli {

// What commands run in: the processes that `launch` has started, else this one alone.
struct Session {
  Fleet* fleet = nullptr;
};

// Words as on the command line, without the program's name. Exit status: 0, 1 where the world
// failed (a full disk, a lost rank), 2 for a mistake of the user's.
int run_program(const std::vector<std::string>& words, Session& session);

}  // namespace tandem::cli
