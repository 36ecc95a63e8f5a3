// Goes on with the same prompts under two plans: on one rank, and with attention on three ranks and
// experts on two others. The tokens are the same.
#include <cstdio>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/world/generate.h"

using namespace tandem;

namespace {

// A small model with random weights: 4 layers, 8 heads (3, 3 and 2 on three ranks), 8 experts.
ModelConfig small_model() {
  ModelConfig model;
  model.vocab_size = 256;
  model.hidden_size = 128;
  model.layers = 4;
  model.heads = 8;
  model.kv_heads = 4;
  model.head_dim = 16;
  model.max_positions = 128;
  model.experts = 8;
  model.top_k = 2;
  model.expert_hidden = 256;
  model.initializer_range = 0.1;
  return model;
}

using Tokens = std::vector<std::vector<int32_t>>;

Tokens run(const char* plan, ParameterStore& store, const Tokens& prompts) {
  Engine engine(make_plan(plan, store.config()), store, {.threads = 2});
  Tokens drawn(prompts.size());
  generate(engine, prompts, {.new_tokens = 16}, [&](int32_t sequence, int32_t token, auto) {
    drawn[sequence].push_back(token);
    return true;
  });
  std::printf("%s:", plan);
  for (const int32_t token : drawn[0]) std::printf(" %d", token);
  std::printf("\n");
  return drawn;
}

}  // namespace

int main() {
  const auto device = make_cpu_device(2);
  const uint64_t seed = 1;
  ParameterStore store = ParameterStore::random(small_model(), seed, DType::bf16, *device);
  const Tokens prompts = {{1, 2, 3, 4, 5}, {17, 4}, {200, 100, 50}};
  const Tokens alone = run("single", store, prompts);
  const Tokens separated = run("ma:attention=3,experts=2", store, prompts);
  std::printf("%s\n", alone == separated ? "the same tokens" : "the tokens differ");
  return alone == separated ? 0 : 1;
}
