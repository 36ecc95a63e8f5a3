// What the status page shows, as JSON.
#pragma once

#include <string>

#include "tandem/serve/api_error.h"
#include "tandem/serve/scheduler.h"

namespace tandem {

// What does not change while a server runs.
struct StatusFacts {
  std::string model, plan;
  int ranks = 0;
  int64_t layers = 0, experts = 0, context_tokens = 0;
  double started_seconds = 0;  // of wall_seconds()
};

// Safe from any thread. Keeps the scheduler making figures.
Json status_json(const StatusFacts& facts, Scheduler& scheduler);

}  // namespace tandem
