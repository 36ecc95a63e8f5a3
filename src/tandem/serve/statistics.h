// What a server has done, in figures. Safe from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tandem {

// Counts of values up to each of some bounds, as Prometheus has them.
struct Histogram {
  static constexpr std::array bounds_seconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                0.5,   1.0,    2.5,   5.0,  10.0,  25.0, 60.0};
  std::array<int64_t, bounds_seconds.size() + 1> counts{};  // the last: above all bounds
  double sum_seconds = 0;
  // The newest values, for percentiles.
  std::vector<double> recent_seconds;

  void add(double seconds);
  int64_t count() const;

 private:
  static constexpr size_t most_recent = 1024;
  size_t next_ = 0;
};

class Statistics {
 public:
  // What was, until now.
  struct Counts {
    // By endpoint and HTTP status.
    std::map<std::pair<std::string, int>, int64_t> requests;
    int64_t prompt_tokens = 0, generated_tokens = 0, preemptions = 0, steps = 0;
    double step_seconds = 0;  // of all steps
    Histogram ttft, tpot;     // time to the first token, and for each of the later ones
  };
  // What is.
  struct Load {
    int64_t waiting = 0, running = 0;
    int64_t kv_used_tokens = 0, kv_tokens = 0;
    int recoveries = 0;
  };

  void answered(const std::string& endpoint, int status);
  void drawn_token();
  void first_token(double ttft_seconds, int64_t prompt_tokens);
  void later_tokens(double tpot_seconds);  // a sequence has ended
  void preempted();
  void step(double seconds);
  void set(const Load& load);

  Counts counts() const;
  Load load() const;

 private:
  mutable std::mutex mutex_;
  Counts counts_;
  Load load_;
};

}  // namespace tandem
