#include "tandem/world/generate.h"

#include <algorithm>

namespace tandem {
namespace {

struct Sequence {
  std::vector<int32_t> pending;  // tokens not yet run
  int64_t done = 0;              // tokens run
  int64_t drawn = 0;
  bool active = true;
};

}  // namespace

GenerateTimes generate(Engine& engine, std::span<const std::vector<int32_t>> prompts,
                       const GenerateSettings& settings, const OnToken& on_token, bool want_logits,
                       const BetweenSteps& between_steps) {
  size_t longest = 0;
  std::vector<Sequence> sequences;
  for (const auto& prompt : prompts) {
    if (prompt.empty()) throw InputError("an empty prompt: there is nothing to go on from");
    longest = std::max(longest, prompt.size());
    sequences.push_back({.pending = prompt});
  }
  const auto count = static_cast<int32_t>(sequences.size());
  engine.plan_memory(count, static_cast<int64_t>(longest) + settings.new_tokens);

  GenerateTimes times;
  std::vector<SequenceTokens> work;
  for (;;) {
    work.clear();
    int64_t tokens = 0;
    bool prefill = false;
    for (int32_t s = 0; s < count; ++s) {
      Sequence& sequence = sequences[s];
      if (!sequence.active) continue;
      const auto take = std::min(settings.prefill_chunk, std::ssize(sequence.pending));
      SequenceTokens& item = work.emplace_back();
      item.slot = s;
      item.first_position = static_cast<int32_t>(sequence.done);
      item.tokens.assign(sequence.pending.begin(), sequence.pending.begin() + take);
      sequence.pending.erase(sequence.pending.begin(), sequence.pending.begin() + take);
      sequence.done += take;
      item.sample = sequence.pending.empty();
      item.sampling = settings.sampling;
      item.sampling.seed += s;
      item.sampling.position = sequence.done;
      prefill = prefill || sequence.drawn == 0;
      tokens += take;
    }
    if (work.empty()) return times;

    const double start = engine.world().controller().now_seconds();
    const Sampled sampled = engine.infer(work, want_logits);
    const double seconds = engine.world().controller().now_seconds() - start;
    (prefill ? times.prefill_seconds : times.decode_seconds) += seconds;
    (prefill ? times.prefill_tokens : times.decode_tokens) += tokens;
    times.decode_steps += !prefill;
    int64_t row = 0;
    for (const SequenceTokens& item : work) {
      if (!item.sample) continue;
      Sequence& sequence = sequences[item.slot];
      const int32_t token = sampled.tokens[row];
      const float* logits = want_logits ? sampled.logits.row<float>(row) : nullptr;
      ++row;
      ++sequence.drawn;
      sequence.active = on_token(item.slot, token, logits) && token != settings.end_token &&
                        sequence.drawn < settings.new_tokens;
      sequence.pending = {token};
    }
    if (between_steps) between_steps(engine);
  }
}

}  // namespace tandem
