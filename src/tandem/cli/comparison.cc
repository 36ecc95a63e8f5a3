#include "tandem/cli/comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tandem/base/random.h"
#include "tandem/cli/model_options.h"
#include "tandem/plan/layout.h"

namespace tandem::cli {
namespace {

constexpr size_t timeline_steps = 3;

// The largest difference of logits, and the largest logit of the reference.
struct Difference {
  double largest = 0, reference = 0;

  void add(const float* actual, const float* expected, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const double difference = std::abs(double{actual[i]} - double{expected[i]});
      if (std::isnan(difference)) largest = std::numeric_limits<double>::infinity();
      largest = std::max(largest, difference);
      reference = std::max(reference, std::abs(double{expected[i]}));
    }
  }
  double relative() const { return largest == 0 ? 0 : largest / reference; }
};

std::vector<std::string> roles_of(const Plan& plan) {
  std::vector<std::string> roles;
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const Role role = role_of(plan, rank);
    roles.push_back(role.attention ? (role.expert ? "attention, expert" : "attention") : "expert");
  }
  return roles;
}

RankBytes bytes_of(Engine& engine) {
  RankBytes bytes;
  for (int rank = 0; rank < engine.plan().ranks(); ++rank) {
    bytes.parameters.push_back(
        weight_bytes(holdings(engine.plan(), engine.model(), rank), engine.store().weight_dtype()));
    const Engine::Memory& memory = engine.memory()[rank];
    bytes.kv_cache.push_back(memory.cache_bytes);
    bytes.activations.push_back(std::max<int64_t>(0, memory.peak_bytes - memory.cache_bytes));
  }
  return bytes;
}

void keep_window(std::vector<RankSpans>& ranks, const TimeWindow& window) {
  for (RankSpans& rank : ranks)
    std::erase_if(rank.spans, [&](const Span& span) {
      return span.end_seconds <= window.begin_seconds || span.start_seconds >= window.end_seconds;
    });
}

double rate(int64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

}  // namespace

double PlanResult::tokens_per_second() const {
  return rate(times.decode_tokens, times.decode_seconds);
}
double PlanResult::tpot_seconds() const {
  return times.decode_steps > 0 ? times.decode_seconds / static_cast<double>(times.decode_steps)
                                : 0;
}
double PlanResult::prefill_tokens_per_second() const {
  return rate(times.prefill_tokens, times.prefill_seconds);
}

void Comparison::make_reference(const Plan& plan) {
  Engine engine(plan, store_, make_world_);
  tokens_.assign(prompts_.size(), {});
  logits_.assign(prompts_.size(), {});
  const int64_t vocabulary = engine.model().vocab_size;
  generate(
      engine, prompts_, generate_settings(),
      [&](int32_t sequence, int32_t token, const float* logits) {
        tokens_[sequence].push_back(token);
        logits_[sequence].insert(logits_[sequence].end(), logits, logits + vocabulary);
        return true;
      },
      true);
}

PlanResult Comparison::run(const std::string& name, const Plan& plan) {
  Engine engine(plan, store_, make_world_);
  PlanResult result{.name = name, .roles = roles_of(plan)};
  check_outputs(engine, result);  // which warms up the ranks as well
  engine.plan_memory(1, 1);       // the K/V memory of two passes is not to be held at once
  measure_speed(engine, result);
  result.bytes = bytes_of(engine);
  return result;
}

// A sequence's logits count while it was given the reference's tokens.
void Comparison::check_outputs(Engine& engine, PlanResult& result) const {
  const int64_t vocabulary = engine.model().vocab_size;
  Difference difference;
  std::vector<size_t> drawn(prompts_.size());
  std::vector<bool> same(prompts_.size(), true);
  generate(
      engine, prompts_, generate_settings(),
      [&](int32_t sequence, int32_t token, const float* logits) {
        const size_t step = drawn[sequence]++;
        if (!same[sequence]) return true;
        difference.add(logits, logits_[sequence].data() + step * vocabulary, vocabulary);
        same[sequence] = token == tokens_[sequence][step];
        return true;
      },
      true);
  result.same_tokens = std::ranges::all_of(same, [](bool s) { return s; });
  result.max_relative_error = difference.relative();
}

void Comparison::measure_speed(Engine& engine, PlanResult& result) const {
  std::vector<double> step_ends;
  engine.clear_expert_tokens();
  result.times =
      generate(engine, prompts_, generate_settings(), [&](int32_t sequence, int32_t, auto) {
        if (sequence != 0) return true;
        if (step_ends.empty()) engine.clear_spans();  // what came before is prefill
        step_ends.push_back(engine.world().controller().now_seconds());
        return true;
      });
  result.expert_tokens = engine.expert_tokens();
  result.step_spans = engine.spans();
  const TimeWindow decode{step_ends.front(), step_ends.back()};
  result.decode = compute_metrics(result.step_spans, decode);
  const size_t shown = std::min(timeline_steps, step_ends.size() - 1);
  const size_t first = (step_ends.size() - 1 - shown) / 2;
  result.step_window = {step_ends[first], step_ends[first + shown]};
  keep_window(result.step_spans, result.step_window);
}

std::vector<std::vector<int32_t>> random_prompts(uint64_t seed, int64_t count, int64_t length,
                                                 int64_t vocabulary) {
  const RandomSource source(seed, RandomStream::prompts);
  std::vector<std::vector<int32_t>> prompts;
  std::set<std::vector<int32_t>> seen;
  constexpr int64_t most_repeats = 1000;
  for (int64_t item = 0; std::ssize(prompts) < count; ++item) {
    std::vector<int32_t> prompt;
    for (int64_t i = 0; i < length; ++i)
      prompt.push_back(static_cast<int32_t>(source.bits(item, i) % vocabulary));
    if (seen.insert(prompt).second || item > count + most_repeats)
      prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace tandem::cli
