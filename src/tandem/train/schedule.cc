#include "tandem/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "tandem/base/error.h"

namespace tandem {

void LearningRate::validate() const {
  if (!(peak > 0 && std::isfinite(peak)))
    throw InputError("learning rate must be above 0, not {}", peak);
  if (total_steps < 1) throw InputError("steps must be at least 1, not {}", total_steps);
  if (warmup_steps < 0 || warmup_steps > total_steps)
    throw InputError("warmup_steps must be 0 to the {} steps of the run, not {}", total_steps,
                     warmup_steps);
  if (!(min_ratio >= 0 && min_ratio <= 1))
    throw InputError("learning rate min_ratio must be 0 to 1, not {}", min_ratio);
}

double LearningRate::at(int64_t step) const {
  const int64_t done = std::max<int64_t>(0, step) + 1;  // steps, this one counted
  if (done <= warmup_steps)
    return peak * static_cast<double>(done) / static_cast<double>(warmup_steps);
  if (done >= total_steps) return peak * min_ratio;
  const double progress =
      static_cast<double>(done - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return peak * (min_ratio + (1 - min_ratio) * cosine);
}

}  // namespace tandem
