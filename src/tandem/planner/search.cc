#include "tandem/planner/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tandem/plan/shorthand.h"

namespace tandem {
namespace {

constexpr int most_micro_batches = 4;

std::vector<int> divisors(int number) {
  std::vector<int> all;
  for (int d = 1; d <= number; ++d)
    if (number % d == 0) all.push_back(d);
  return all;
}

class Candidates {
 public:
  Candidates(const ModelConfig& model, int ranks) : model_(model), ranks_(ranks) {}

  std::vector<std::string> run() {
    if (ranks_ == 1) add("single", "");
    for (const int copies : divisors(ranks_)) {
      const int own = ranks_ / copies;
      const std::string suffix = copies > 1 ? fmt::format(",copies={}", copies) : "";
      colocated(own, suffix);
      for (const int stages : {1, 2, 4})
        if (own % stages == 0 && stages <= model_.layers)
          separated(own / stages, (stages > 1 ? fmt::format(",stages={}", stages) : "") + suffix);
    }
    return std::move(plans_);
  }

 private:
  void colocated(int ranks, const std::string& suffix) {
    for (const int stages : divisors(ranks)) {
      if (stages > model_.layers) continue;
      const int each = ranks / stages;
      if (each > 1 && stages > 1)
        add(fmt::format("tp-pp:ranks={},stages={}", each, stages), suffix);
      if (each == 1 && stages > 1) add(fmt::format("pp:stages={}", stages), suffix);
      if (stages == 1 && each > 1 && each <= model_.heads)
        add(fmt::format("tp:ranks={}", each), suffix);
      if (each == 1) continue;
      const std::string staged = stages > 1 ? fmt::format(",stages={}", stages) : "";
      for (const int batch : divisors(each)) {
        if (each / batch > model_.heads) continue;
        const std::string shards = batch < each ? fmt::format(",batch={}", batch) : "";
        add_with_experts(fmt::format("ep:ranks={}{}{}", each, shards, staged), each, suffix);
      }
    }
  }

  void separated(int ranks, const std::string& suffix) {
    for (int attention = 1; attention < ranks; ++attention)
      for (const int batch : divisors(attention))
        for (const int sequence : divisors(attention / batch)) {
          if (sequence > 2 || attention / batch / sequence > model_.heads) continue;
          for (const char* exchange : {"", ",exchange=sums"}) {
            if (*exchange && attention == batch * sequence) continue;
            const std::string shards = (batch > 1 ? fmt::format(",batch={}", batch) : "") +
                                       (sequence > 1 ? fmt::format(",sequence={}", sequence) : "");
            const std::string plan = fmt::format("ma:attention={},experts={}{}{}", attention,
                                                 ranks - attention, shards, exchange);
            add_with_experts(plan, ranks - attention, suffix);
            add_with_experts(plan + ",mixed=1", ranks - attention, suffix);
          }
        }
  }

  // Experts once, twice, or each split over two ranks.
  void add_with_experts(const std::string& plan, int expert_ranks, const std::string& suffix) {
    add(plan, suffix);
    if (expert_ranks == 1 || expert_ranks > model_.experts) return;
    add(plan + ",split=2", suffix);
    add(plan + ",replicas=2", suffix);
  }

  void add(const std::string& plan, const std::string& suffix) {
    for (int m = 1; m <= most_micro_batches; ++m) {
      const std::string text = plan + suffix + (m > 1 ? fmt::format(",micro_batches={}", m) : "");
      const bool bare = text.find(':') == std::string::npos && text.find(',') != std::string::npos;
      plans_.push_back(bare ? std::string(text).replace(text.find(','), 1, ":") : text);
    }
  }

  const ModelConfig& model_;
  int ranks_;
  std::vector<std::string> plans_;
};

// The best guesses, and the best few of every kind, so that no strategy is judged by a guess alone.
std::vector<size_t> worth_simulating(const std::vector<Candidate>& all, int count) {
  std::vector<size_t> chosen;
  std::map<std::string, int> of_kind;
  const int each = std::max(2, count / 6);
  for (size_t i = 0; i < all.size(); ++i)
    if (of_kind[all[i].kind]++ < each) chosen.push_back(i);
  for (size_t i = 0; i < all.size() && std::ssize(chosen) < count; ++i)
    if (std::ranges::find(chosen, i) == chosen.end()) chosen.push_back(i);
  return chosen;
}

}  // namespace

std::vector<std::string> candidate_plans(const ModelConfig& model, int ranks) {
  return Candidates(model, ranks).run();
}

SearchResult search(const ModelConfig& model, const Cluster& cluster, const Workload& work,
                    const SearchSettings& settings, const std::function<void(int, int)>& progress) {
  SearchResult result;
  double least_needed = 0;
  for (const std::string& text : candidate_plans(model, cluster.devices())) {
    Candidate candidate{.plan = text, .kind = text.substr(0, text.find(':'))};
    try {
      candidate.estimate =
          estimate(model, plan_from_shorthand(text, model), cluster, work, settings.dtype);
    } catch (const InputError&) {
      continue;  // does not fit this model's heads or experts
    }
    ++result.candidates;
    const Estimate& e = candidate.estimate;
    if (e.fits()) {
      result.ranked.push_back(std::move(candidate));
      continue;
    }
    ++result.too_large;
    if (least_needed == 0 || e.memory_bytes < least_needed) {
      least_needed = e.memory_bytes;
      result.smallest_too_large = fmt::format("{}: needs {:.1f} GB on a device of {:.1f} GB", text,
                                              e.memory_bytes / 1e9, e.memory_limit_bytes / 1e9);
    }
  }
  if (result.ranked.empty())
    throw InputError("no plan of {} fits into memory; the smallest, {}", result.candidates,
                     result.smallest_too_large);
  std::ranges::stable_sort(result.ranked, {},
                           [](const Candidate& c) { return c.estimate.step_seconds; });
  const std::vector<size_t> chosen = worth_simulating(result.ranked, settings.simulated);
  int done = 0;
  for (const size_t i : chosen) {
    Candidate& c = result.ranked[i];
    c.prediction = simulate(model, plan_from_shorthand(c.plan, model), cluster, work,
                            {.dtype = settings.dtype, .seed = settings.seed});
    c.prediction.spans.clear();
    c.simulated = true;
    if (progress) progress(++done, static_cast<int>(chosen.size()));
  }
  const auto too_slow = [&](const Candidate& c) {
    return settings.tpot_limit_seconds > 0 && c.seconds() > settings.tpot_limit_seconds;
  };
  std::ranges::stable_sort(result.ranked, {},
                           [](const Candidate& c) { return std::pair(!c.simulated, c.seconds()); });
  const double fastest = result.ranked.front().seconds();
  std::erase_if(result.ranked, too_slow);
  if (result.ranked.empty())
    throw InputError("no plan makes a step in {} s; the fastest takes {:.6f} s",
                     settings.tpot_limit_seconds, fastest);
  return result;
}

}  // namespace tandem
