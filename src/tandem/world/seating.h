// Which process, or device of a described cluster, each rank of a plan sits in.
#pragma once

#include <vector>

#include "tandem/plan/plan.h"

namespace tandem {

// Ranks dealt to `processes` in order, as evenly as it goes.
std::vector<int> first_seats(const Plan& plan, int processes);

// Ranks of processes that are not `alive` move: those of attention to where a rank sits that
// mirrors their K/V, those of experts to where a replica of one of theirs is, else to the process
// with the fewest ranks. The others stay.
std::vector<int> seats_after_loss(const Plan& plan, std::vector<int> process_of,
                                  const std::vector<bool>& alive);

}  // namespace tandem
