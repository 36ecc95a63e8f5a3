#include "tandem/cli/bench_steps.h"

#include <fmt/format.h>

#include <numeric>

#include "tandem/cli/comparison.h"
#include "tandem/cli/model_options.h"
#include "tandem/device/cpu/cpu_device.h"

namespace tandem::cli {
namespace {

constexpr int64_t most_decode_steps = 256;

// Contents matter to no kernel, but pages that were never written would be read from a cache.
void fill_caches(Engine& engine, Device& device) {
  for (int number = 0; number < engine.plan().ranks(); ++number) {
    Rank& rank = engine.world().rank(number);
    if (!rank.cache) continue;
    const Tensor first = rank.cache->rows(0);
    device.execute(FillNormal{.x = first, .deviation = 1, .full_cols = first.cols});
    for (int64_t layer = 0; layer < rank.stage().layers.size(); ++layer)
      device.execute(CopyRows{.from = first, .to = rank.cache->rows(layer)});
  }
}

Cost cost_of(const RankSpans& rank) {
  Cost cost;
  for (const Span& span : rank.spans)
    if (computes(span)) cost += span.cost;
  return cost;
}

// Of all operations, each bound by products or by memory: closer than the bound of the sums, since
// one operation's products do not fill the time in which another one waits for memory.
double operations_seconds(const RankSpans& rank, const Ceilings& ceilings) {
  double seconds = 0;
  for (const Span& span : rank.spans)
    if (computes(span)) seconds += roofline_seconds(span.cost, ceilings);
  return seconds;
}

Cost divided(const Cost& cost, int64_t by) {
  return {cost.flops / static_cast<double>(by), cost.bytes / static_cast<double>(by)};
}

}  // namespace

// What one step is made of, from the spans of `steps` of them, and the least it can take: the
// slowest rank's work at the ceilings of as many threads as a rank has.
void StepBench::add_work(Figure& figure, Engine& engine, int64_t steps, const TimeWindow& window,
                         const Ceilings& rank_ceilings) const {
  const std::vector<RankSpans> ranks = engine.spans();
  const Metrics metrics = compute_metrics(ranks, window);
  figure.cost = divided(metrics.compute, steps);
  double busy = 0, one_after_the_other = 0;
  size_t slowest = 0;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    const double least = roofline_seconds(divided(cost_of(ranks[rank]), steps), rank_ceilings);
    one_after_the_other += least;
    if (least > figure.bound_seconds) slowest = rank;
    figure.bound_seconds = std::max(figure.bound_seconds, least);
    figure.operations_seconds =
        std::max(figure.operations_seconds,
                 operations_seconds(ranks[rank], rank_ceilings) / static_cast<double>(steps));
    const Metrics own = compute_metrics(std::span(ranks).subspan(rank, 1), window);
    busy += std::max(own.attention.utilisation, own.expert.utilisation);
  }
  figure.outside_share = 1 - busy / static_cast<double>(ranks.size());
  if (ranks.size() > 1)
    figure.bound =
        fmt::format("{}; of all ranks one after the other {:.1f} %", rank_title(ranks[slowest]),
                    100 * one_after_the_other / figure.seconds);
}

Figure StepBench::measure(Figure figure, Engine& engine, const std::function<void()>& step) {
  const auto now = [&] { return engine.world().controller().now_seconds(); };
  const int threads = bench_.settings().threads;
  const int rank_threads = std::max(1, threads / engine.plan().ranks());
  step();  // allocates, and brings the weights into memory
  step();
  const Ceilings before = bench_.ceilings(store_.dtype(), threads);
  const Ceilings rank_before = bench_.ceilings(store_.dtype(), rank_threads);
  engine.clear_spans();
  std::vector<double> seconds;
  const TimeWindow limit{now(), now() + bench_.settings().figure_seconds()};
  constexpr size_t fewest = 3;
  while (seconds.size() < fewest ||
         (now() < limit.end_seconds && seconds.size() + 2 < most_decode_steps)) {
    const double begin = now();
    step();
    seconds.push_back(now() - begin);
  }
  const TimeWindow window{limit.begin_seconds, now()};
  const auto steps = static_cast<int64_t>(seconds.size());
  figure.seconds = median(std::move(seconds));
  figure.ceilings = mean(before, bench_.ceilings(store_.dtype(), threads));
  add_work(figure, engine, steps, window,
           mean(rank_before, bench_.ceilings(store_.dtype(), rank_threads)));
  return bench_.add(std::move(figure));
}

Figure StepBench::prefill(int64_t tokens) {
  Engine engine(make_plan("single", store_.config()), store_, world(false));
  engine.plan_memory(1, tokens);
  const SequenceTokens work{.tokens =
                                random_prompts(1, 1, tokens, store_.config().vocab_size).front()};
  return measure({.section = "whole steps",
                  .name = fmt::format("prefill of {} tokens, single", tokens),
                  .tokens = static_cast<double>(tokens)},
                 engine, [&] {
                   const int32_t slot = 0;
                   engine.release({&slot, 1});
                   engine.infer({&work, 1});
                 });
}

Figure StepBench::decode(const std::string& section, const DecodeCase& one) {
  Engine engine(make_plan(one.plan, store_.config()), store_, world(false));
  const int64_t room =
      std::min(store_.config().max_positions - one.context_tokens, most_decode_steps);
  engine.plan_memory(one.sequences, one.context_tokens + room);
  fill_caches(engine, *make_cpu_device(bench_.settings().threads));
  const auto first = random_prompts(1, one.sequences, 1, store_.config().vocab_size);
  std::vector<SequenceTokens> work(one.sequences);
  for (int64_t s = 0; s < one.sequences; ++s)
    work[s] = {.slot = static_cast<int32_t>(s),
               .first_position = static_cast<int32_t>(one.context_tokens),
               .tokens = first[s]};
  return measure(
      {.section = section,
       .name = fmt::format("decode, {} sequence{} at {} tokens, {}", one.sequences,
                           one.sequences == 1 ? "" : "s", one.context_tokens, one.plan),
       .tokens = static_cast<double>(one.sequences)},
      engine, [&] {
        const Sampled sampled = engine.infer(work);
        for (size_t s = 0; s < work.size(); ++s) {
          work[s].tokens = {sampled.tokens[s]};
          work[s].first_position =
              static_cast<int32_t>(one.context_tokens) +
              static_cast<int32_t>((work[s].first_position + 1 - one.context_tokens) % room);
        }
      });
}

Figure StepBench::training(int64_t sequences, int64_t sequence_tokens) {
  Engine engine(make_plan("single", store_.config()), store_, world(true));
  const int64_t tokens = sequences * sequence_tokens;
  TrainingBatch batch{.sequences = sequences, .sequence_tokens = sequence_tokens};
  for (auto& sequence :
       random_prompts(1, sequences, sequence_tokens + 1, store_.config().vocab_size)) {
    batch.inputs.insert(batch.inputs.end(), sequence.begin(), sequence.end() - 1);
    batch.targets.insert(batch.targets.end(), sequence.begin() + 1, sequence.end());
  }
  batch.weights.assign(tokens, 1.0f);
  TrainingStep step{.step = 0, .learning_rate = 1e-5f};
  return measure({.section = "whole steps",
                  .name = fmt::format("training, {} tokens a step, single", tokens),
                  .tokens = static_cast<double>(tokens)},
                 engine, [&] {
                   ++step.step;
                   engine.train(batch, step);
                 });
}

int64_t StepBench::training_bytes(const ModelConfig& model, DType dtype) {
  constexpr int64_t f32_numbers = 4;  // gradient, two moments, master weight
  return parameter_count(model) * (size_of(dtype) + f32_numbers * size_of(DType::f32));
}

}  // namespace tandem::cli
