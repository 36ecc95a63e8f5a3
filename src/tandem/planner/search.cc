#include "tandem/planner/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

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

// On many ranks sixteen ratios are looked at first.
int attention_step(int ranks) { return ranks > 32 ? ranks / 16 : 1; }

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
    for (int attention = attention_step(ranks); attention < ranks;
         attention += attention_step(ranks))
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

// "ep:ranks=8" of "ep:ranks=8,micro_batches=2".
std::string without_micro_batches(const std::string& plan) {
  const size_t at = plan.find("micro_batches=");
  return at == std::string::npos ? plan : plan.substr(0, at - 1);
}

std::string mixed(const std::string& plan) {
  const std::string base = without_micro_batches(plan);
  return base + ",mixed=1" + plan.substr(base.size());
}

// The best guesses, and the best few of every kind, so that no strategy is judged by a guess alone;
// of these, what is not simulated yet. skips(candidate): not worth it.
template <class Skips>
std::vector<size_t> worth_simulating(const std::vector<Candidate>& all, int count,
                                     const Skips& skips) {
  std::vector<size_t> chosen;
  std::map<std::string, int> of_kind;
  const int each = std::max(1, count / 6);
  for (size_t i = 0; i < all.size(); ++i)
    if (!skips(all[i]) && of_kind[all[i].kind]++ < each) chosen.push_back(i);
  for (size_t i = 0; i < all.size() && std::ssize(chosen) < count; ++i)
    if (!skips(all[i]) && std::ranges::find(chosen, i) == chosen.end()) chosen.push_back(i);
  std::erase_if(chosen, [&](size_t i) { return all[i].simulated; });
  return chosen;
}

class Search {
 public:
  Search(const ModelConfig& model, const Cluster& cluster, const Workload& work,
         const SearchSettings& settings)
      : model_(model), cluster_(cluster), work_(work), settings_(settings) {}

  SearchResult run(const std::function<void(int, int)>& progress) {
    guess(candidate_plans(model_, cluster_.devices()));
    if (result_.ranked.empty())
      throw InputError("no plan of {} fits into memory; the smallest, {}{}", result_.candidates,
                       result_.smallest_too_large, advice());
    refine();
    simulate_best(progress);
    keep_limit();
    return std::move(result_);
  }

 private:
  // Estimates what fits into memory; plans that differ in micro-batches alone follow each other,
  // and need the same.
  void guess(const std::vector<std::string>& texts) {
    std::string built;
    std::optional<Plan> plan;
    bool fits = true;
    for (const std::string& text : texts) {
      const std::string base = without_micro_batches(text);
      if (base != built) {
        built = base;
        plan.reset();
        fits = true;
        try {
          plan = plan_from_shorthand(base, model_);
        } catch (const InputError&) {
          // Does not fit this model's heads or experts.
        }
      }
      if (!plan) continue;
      if (!fits) {
        ++result_.candidates, ++result_.too_large;
        continue;
      }
      plan->micro_batches =
          base == text ? 1 : std::atoi(text.c_str() + text.find("micro_batches=") + 14);
      const Estimate e = estimate(model_, *plan, cluster_, work_, settings_.dtype);
      fits = e.fits();
      take(text, e);
    }
    std::ranges::stable_sort(result_.ranked, {},
                             [](const Candidate& c) { return c.estimate.step_seconds; });
  }

  void take(const std::string& text, const Estimate& e) {
    ++result_.candidates;
    if (e.fits()) {
      result_.ranked.push_back(
          {.plan = text, .kind = text.substr(0, text.find(':')), .estimate = e});
      return;
    }
    take_too_large(text, e.memory_bytes, e.memory_limit_bytes);
  }

  void take_too_large(const std::string& text, double bytes, double limit_bytes) {
    ++result_.too_large;
    if (least_needed_ > 0 && bytes >= least_needed_) return;
    least_needed_ = bytes;
    result_.smallest_too_large = fmt::format("{}: needs {:.1f} GB on a device of {:.1f} GB", text,
                                             bytes / 1e9, limit_bytes / 1e9);
  }

  // Around the best separated guesses: ratios between those looked at, and both groups spread
  // evenly over the nodes, which the closed form does not tell from one group after the other.
  void refine() {
    constexpr int with_neighbours = 8;
    std::vector<std::string> around;
    const auto look_at = [&](std::string plan) {
      if (std::ranges::find(around, plan) == around.end()) around.push_back(std::move(plan));
    };
    int seen = 0;
    for (const Candidate& c : result_.ranked) {
      if (c.kind != "ma" || seen == simulated()) continue;
      if (seen++ < with_neighbours)
        for (std::string& plan : neighbours(c.plan, cluster_.devices())) look_at(std::move(plan));
      look_at(mixed(c.plan));
    }
    guess(around);
  }

  int simulated() const {
    constexpr int rank_simulations = 1024, most = 64, least = 6;
    return settings_.simulated > 0 ? settings_.simulated
                                   : std::clamp(rank_simulations / cluster_.devices(), least, most);
  }

  // What a run turns out to need beyond its weights and its cache may be too much. Then the next
  // best guesses have their turn, but for those that would need too much by the same measure.
  void simulate_best(const std::function<void(int, int)>& progress) {
    constexpr int most_rounds = 5;
    std::map<std::string, double> needed;  // by kind: of what the closed form says, at the most
    const auto skips = [&](const Candidate& c) {
      const auto factor = needed.find(c.kind);
      return !c.simulated && factor != needed.end() &&
             c.estimate.memory_bytes * factor->second > c.estimate.memory_limit_bytes;
    };
    for (int round = 0; round < most_rounds; ++round) {
      std::vector<size_t> chosen = worth_simulating(result_.ranked, simulated(), skips);
      if (chosen.empty()) break;
      simulate_all(std::move(chosen), progress);
      std::erase_if(result_.ranked, [&](const Candidate& c) {
        if (!c.simulated || c.prediction.fits()) return false;
        take_too_large(c.plan, c.memory_bytes(), c.prediction.fullest().limit_bytes);
        double& factor = needed[c.kind];
        factor = std::max(factor, c.memory_bytes() / c.estimate.memory_bytes);
        return true;
      });
      std::ranges::stable_sort(result_.ranked, {}, [](const Candidate& c) {
        return std::pair(!c.simulated, c.seconds());
      });
    }
    if (result_.ranked.empty() || !result_.ranked.front().simulated)
      throw InputError("no plan that was simulated fits into memory with its activations; {}{}",
                       result_.smallest_too_large, advice());
  }

  // Those with the most stages, which take longest, first; what a simulation says does not depend
  // on the others.
  void simulate_all(std::vector<size_t> chosen, const std::function<void(int, int)>& progress) {
    std::map<size_t, Plan> plans;
    for (const size_t i : chosen)
      plans.emplace(i, plan_from_shorthand(result_.ranked[i].plan, model_));
    std::ranges::stable_sort(chosen, std::greater(),
                             [&](size_t i) { return plans.at(i).stages.size(); });
    std::atomic<size_t> next = 0;
    std::mutex mutex;
    std::exception_ptr failure;
    int done = 0;
    const auto work = [&] {
      try {
        for (size_t i = next++; i < chosen.size(); i = next++) {
          Candidate& c = result_.ranked[chosen[i]];
          c.prediction = simulate(model_, plans.at(chosen[i]), cluster_, work_,
                                  {.dtype = settings_.dtype,
                                   .stage_layers = settings_.stage_layers,
                                   .seed = settings_.seed});
          for (RankSpans& rank : c.prediction.spans) rank.spans = {};
          c.simulated = true;
          const std::lock_guard lock(mutex);
          if (progress) progress(++done, static_cast<int>(chosen.size()));
        }
      } catch (...) {
        next = chosen.size();
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> others;
      for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) others.emplace_back(work);
      work();
    }
    if (failure) std::rethrow_exception(failure);
  }

  // What else a training step can do about its memory.
  std::string advice() const {
    if (work_.kind != WorkKind::train) return "";
    return work_.checkpoint_activations
               ? "; more --accumulate holds fewer sequences at once"
               : "; --checkpoint-activations holds less, more --accumulate fewer sequences at once";
  }

  void keep_limit() {
    const double limit = settings_.limit_seconds;
    if (limit <= 0) return;
    const double fastest = result_.ranked.front().seconds();
    std::erase_if(result_.ranked, [&](const Candidate& c) { return c.seconds() > limit; });
    if (result_.ranked.empty())
      throw InputError("no plan makes a step in {} s; the fastest takes {:.6f} s", limit, fastest);
  }

  const ModelConfig& model_;
  const Cluster& cluster_;
  const Workload& work_;
  const SearchSettings& settings_;
  double least_needed_ = 0;
  SearchResult result_;
};

}  // namespace

std::vector<std::string> candidate_plans(const ModelConfig& model, int ranks) {
  return Candidates(model, ranks).run();
}

std::vector<std::string> neighbours(const std::string& plan, int ranks) {
  const auto number = [&](const std::string& key, int otherwise) {
    const size_t at = plan.find(key);
    return at == std::string::npos ? otherwise : std::atoi(plan.c_str() + at + key.size());
  };
  const int own = ranks / number("copies=", 1) / number("stages=", 1);
  const int attention = number("attention=", 1), sequence = number("sequence=", 1);
  const int heads = attention / sequence / number("batch=", 1);  // head groups
  size_t behind = plan.size();  // where what does not depend on the ratio begins
  for (const char* key : {",mixed=", ",split=", ",replicas=", ",stages=", ",copies=", ",exchange=",
                          ",micro_batches="})
    behind = std::min(behind, plan.find(key));
  std::vector<std::string> plans;
  const int step = attention_step(own);
  for (int a = std::max(1, attention - step + 1); a < std::min(own, attention + step); ++a) {
    if (a == attention || a % (heads * sequence) != 0) continue;
    std::string text = fmt::format("ma:attention={},experts={}", a, own - a);
    const int batch = a / heads / sequence;
    if (batch > 1) text += fmt::format(",batch={}", batch);
    if (sequence > 1) text += fmt::format(",sequence={}", sequence);
    plans.push_back(text + plan.substr(behind));
  }
  return plans;
}

SearchResult search(const ModelConfig& model, const Cluster& cluster, const Workload& work,
                    const SearchSettings& settings, const std::function<void(int, int)>& progress) {
  return Search(model, cluster, work, settings).run(progress);
}

}  // namespace tandem
