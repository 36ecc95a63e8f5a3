// How the speed of a device or a link changes in the course of time. Plain data, safe to read from
// any thread.
#pragma once

#include <limits>
#include <vector>

namespace tandem {

class Pace {
 public:
  static constexpr double never = std::numeric_limits<double>::infinity();

  // From then on so many times as slow as at first; `never`: it stands still, for good.
  void change(double at_seconds, double slow);
  // When work is done that takes so long at full speed.
  double end_seconds(double begin_seconds, double full_speed_seconds) const {
    return changes_.empty() ? begin_seconds + full_speed_seconds
                            : changing_end_seconds(begin_seconds, full_speed_seconds);
  }
  double stop_seconds() const;  // from when on it stands still

 private:
  struct Change {
    double at_seconds, slow;
  };
  double changing_end_seconds(double begin_seconds, double full_speed_seconds) const;
  std::vector<Change> changes_;  // ascending
};

}  // namespace tandem
