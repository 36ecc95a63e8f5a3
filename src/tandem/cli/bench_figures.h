// What `tandem bench` measures, and the ceilings measured beside each figure. Used by one thread.
#pragma once

#include <algorithm>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "tandem/device/cpu/ceilings.h"
#include "tandem/report/table.h"
#include "tandem/trace/metrics.h"

namespace tandem::cli {

struct Figure {
  std::string section, name;
  double seconds = 0;        // of one run
  double tokens = 0;         // that one run takes in or makes; 0 for kernels
  Cost cost;                 // of one run, all ranks together
  Ceilings ceilings;         // of all threads, measured before and after
  double bound_seconds = 0;  // the least a run can take: at these ceilings, or as `bound` says
  std::string bound;
  double operations_seconds =
      0;                     // the same with every operation bound by itself; whole steps alone
  double outside_share = 0;  // of rank time, spent outside compute spans; whole steps alone

  double flops_share() const { return share(cost.flops, ceilings.flops_per_second); }
  double bytes_share() const { return share(cost.bytes, ceilings.bytes_per_second); }
  double bound_share() const { return seconds > 0 ? bound_seconds / seconds : 0; }
  double operations_share() const { return seconds > 0 ? operations_seconds / seconds : 0; }

 private:
  double share(double work, double ceiling) const {
    return seconds > 0 && ceiling > 0 ? work / seconds / ceiling : 0;
  }
};

// Seconds that work takes at the least; 0 where no ceiling is known.
double roofline_seconds(const Cost& cost, const Ceilings& ceilings);

struct BenchSettings {
  int threads = 1;
  bool quick = false;
  double figure_seconds() const { return quick ? 0.2 : 1.0; }  // that a figure is measured for
};

class Bench {
 public:
  explicit Bench(const BenchSettings& settings);

  const BenchSettings& settings() const { return settings_; }
  const std::vector<Figure>& figures() const { return figures_; }

  // Measured now. The speed of memory drifts, so this is asked for beside every figure.
  Ceilings ceilings(DType dtype, int threads) const;
  // Runs `body` for a while and notes the median; the ceilings are measured before and after.
  // `figure` comes with its names, its tokens and its cost.
  Figure& measure(Figure figure, DType dtype, const std::function<void()>& body);
  // For what is measured elsewhere.
  Figure& add(Figure figure);

 private:
  BenchSettings settings_;
  cpu::ReadProbe memory_;
  std::vector<Figure> figures_;
};

Ceilings mean(const Ceilings& a, const Ceilings& b);
Table figures_table(const std::vector<Figure>& figures, const std::string& section);
nlohmann::json figures_json(const std::vector<Figure>& figures);

}  // namespace tandem::cli
