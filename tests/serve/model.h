// A small model and what it answers alone, for tests of the server.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tandem/base/random.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/serve/served_model.h"
#include "tandem/world/generate.h"

namespace tandem::test {

// Tokens are bytes and some more; the text of a random model is anything but UTF-8.
inline ModelConfig tiny_model() {
  ModelConfig c;
  c.vocab_size = 264;
  c.hidden_size = 32;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 8;
  c.max_positions = 512;
  c.experts = 4;
  c.top_k = 2;
  c.expert_hidden = 24;
  c.initializer_range = 0.3;
  c.eos_token = 256;
  return c;
}

inline ParameterStore& tiny_store() {
  static ParameterStore store =
      ParameterStore::random(tiny_model(), 5, DType::f32, *make_cpu_device(1));
  return store;
}

inline std::unique_ptr<Engine> tiny_engine(const std::string& plan = "single") {
  return std::make_unique<Engine>(make_plan(plan, tiny_model()), tiny_store(),
                                  WorldSettings{.threads = 1, .rank = {.timeout_seconds = 60}});
}

inline std::vector<int32_t> random_prompt(uint64_t seed, uint64_t item, int64_t count) {
  const RandomSource source(seed, RandomStream::prompts);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(source.bits(item, i) % 256));
  return tokens;
}

// What `generate` draws for the prompt when nothing else runs; with the end token, if it comes.
inline std::vector<int32_t> alone(const std::vector<int32_t>& prompt, int64_t new_tokens,
                                  const Sampling& sampling, int32_t end_token = -1) {
  static const std::unique_ptr<Engine> engine = tiny_engine();
  std::vector<int32_t> drawn;
  generate(*engine, {&prompt, 1},
           {.new_tokens = new_tokens, .sampling = sampling, .end_token = end_token},
           [&](int32_t, int32_t token, const float*) {
             drawn.push_back(token);
             return true;
           });
  return drawn;
}

inline std::unique_ptr<ServedModel> served_model(int64_t context_tokens) {
  return std::unique_ptr<ServedModel>(new ServedModel{
      .name = "tiny",
      .config = tiny_model(),
      .text = ModelText("/nowhere", tiny_model()),
      .chat = ChatTemplate::parse("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
                                  "{% if add_generation_prompt %}<assistant>{% endif %}",
                                  "test"),
      .context_tokens = context_tokens});
}

}  // namespace tandem::test
