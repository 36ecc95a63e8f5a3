// Generation of a batch of sequences on an engine: prefill (in chunks), then token by token.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "tandem/world/engine.h"

namespace tandem {

struct GenerateSettings {
  int64_t new_tokens = 1;
  int64_t prefill_chunk = 512;  // tokens of a sequence in one step
  Sampling sampling;            // position is filled in
  int32_t end_token = -1;       // a sequence ends behind it; -1: none
};

struct GenerateTimes {
  double prefill_seconds = 0, decode_seconds = 0;
  int64_t prefill_tokens = 0, decode_tokens = 0, decode_steps = 0;
};

// Called with each drawn token and the logits behind it (null unless wanted); false ends the
// sequence.
using OnToken = std::function<bool(int32_t sequence, int32_t token, const float* logits)>;

// Called between steps, where something may be done to the engine.
using BetweenSteps = std::function<void(Engine&)>;

// Slots 0 .. n-1 of the engine, whose memory is planned here. Sequence i draws with seed + i.
GenerateTimes generate(Engine& engine, std::span<const std::vector<int32_t>> prompts,
                       const GenerateSettings& settings, const OnToken& on_token,
                       bool want_logits = false, const BetweenSteps& between_steps = {});

}  // namespace tandem
