#include "tandem/serve/statistics.h"

#include <algorithm>
#include <numeric>

namespace tandem {

void Histogram::add(double seconds) {
  const auto bound = std::ranges::lower_bound(bounds_seconds, seconds);
  ++counts[static_cast<size_t>(bound - bounds_seconds.begin())];
  sum_seconds += seconds;
  if (recent_seconds.size() < most_recent) {
    recent_seconds.push_back(seconds);
  } else {
    recent_seconds[next_] = seconds;
    next_ = (next_ + 1) % most_recent;
  }
}

int64_t Histogram::count() const { return std::reduce(counts.begin(), counts.end()); }

void Statistics::answered(const std::string& endpoint, int status) {
  const std::lock_guard lock(mutex_);
  ++counts_.requests[{endpoint, status}];
}

void Statistics::drawn_token() {
  const std::lock_guard lock(mutex_);
  ++counts_.generated_tokens;
}

void Statistics::first_token(double ttft_seconds, int64_t prompt_tokens) {
  const std::lock_guard lock(mutex_);
  counts_.prompt_tokens += prompt_tokens;
  counts_.ttft.add(ttft_seconds);
}

void Statistics::later_tokens(double tpot_seconds) {
  const std::lock_guard lock(mutex_);
  counts_.tpot.add(tpot_seconds);
}

void Statistics::preempted() {
  const std::lock_guard lock(mutex_);
  ++counts_.preemptions;
}

void Statistics::step(double seconds) {
  const std::lock_guard lock(mutex_);
  ++counts_.steps;
  counts_.step_seconds += seconds;
}

void Statistics::set(const Load& load) {
  const std::lock_guard lock(mutex_);
  load_ = load;
}

Statistics::Counts Statistics::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

Statistics::Load Statistics::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

}  // namespace tandem
