// Trains with attention and experts on separate ranks, on a pattern that can be learned: each token
// is the one before it plus a step that its sequence keeps to.
#include <cstdio>

#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/world/engine.h"

using namespace tandem;

namespace {

ModelConfig small_model() {
  ModelConfig model;
  model.vocab_size = 64;
  model.hidden_size = 64;
  model.layers = 2;
  model.heads = 8;
  model.kv_heads = 8;
  model.head_dim = 8;
  model.max_positions = 32;
  model.experts = 8;
  model.top_k = 2;
  model.expert_hidden = 128;
  model.balance_loss = 0.01;
  model.z_loss = 0.001;
  return model;
}

TrainingBatch batch_of_step(int64_t step, int32_t vocabulary) {
  TrainingBatch batch{.sequences = 16, .sequence_tokens = 32};
  for (int64_t s = 0; s < batch.sequences; ++s)
    for (int64_t i = 0; i < batch.sequence_tokens; ++i) {
      const int64_t stride = 1 + s % 4, first = 7 * step + 13 * s;
      batch.inputs.push_back(static_cast<int32_t>((first + i * stride) % vocabulary));
      batch.targets.push_back(static_cast<int32_t>((first + (i + 1) * stride) % vocabulary));
      batch.weights.push_back(1);
    }
  return batch;
}

}  // namespace

int main() {
  const auto device = make_cpu_device(2);
  ParameterStore store = ParameterStore::random(small_model(), 1, DType::f32, *device);
  // Five ranks, heads 3, 3, 2; two micro-batches are in flight.
  Engine engine(make_plan("ma:attention=3,experts=2,micro_batches=2", store.config()), store,
                {.threads = 2, .rank = {.trainable = true}});
  double first = 0, last = 0;
  for (int64_t step = 1; step <= 60; ++step) {
    const TrainingResult result =
        engine.train(batch_of_step(step, 64), {.step = step, .learning_rate = 3e-3f});
    (step == 1 ? first : last) = result.loss;
    if (step == 1 || step % 10 == 0)
      std::printf("step %2d: loss %.4f, balance loss %.4f, norm of the gradient %.3f\n",
                  static_cast<int>(step), result.loss, result.balance_loss, result.gradient_norm);
  }
  return last < 0.5 * first ? 0 : 1;
}
