#include "tandem/cluster/pace.h"

#include <algorithm>

namespace tandem {

void Pace::change(double at_seconds, double slow) {
  const auto behind = std::ranges::upper_bound(changes_, at_seconds, {}, &Change::at_seconds);
  changes_.insert(behind, {at_seconds, slow});
}

double Pace::changing_end_seconds(double begin_seconds, double full_speed_seconds) const {
  double now = begin_seconds, left = full_speed_seconds, slow = 1;
  for (const Change& change : changes_) {
    if (slow == never || now + left * slow <= change.at_seconds) break;
    if (change.at_seconds > now) {
      left -= (change.at_seconds - now) / slow;
      now = change.at_seconds;
    }
    slow = change.slow;
  }
  return slow == never ? never : now + left * slow;
}

double Pace::stop_seconds() const {
  const auto stop = std::ranges::find(changes_, never, &Change::slow);
  return stop == changes_.end() ? never : stop->at_seconds;
}

}  // namespace tandem
