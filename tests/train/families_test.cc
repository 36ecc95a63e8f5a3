// Models of every family (tests/parity) are trained, saved, and are then the same to whoever loads
// them: the names and shapes of the tensors, the numbers, and what is made of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "model/parity_models.h"
#include "model/temporary_directory.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/train/checkpoint.h"
#include "train/logits.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

TrainingBatch batch_of(const ModelConfig& model) {
  TrainingBatch batch{.sequences = 2, .sequence_tokens = 9};
  for (int32_t i = 0; i < 18; ++i) {
    batch.inputs.push_back(i * 5 % static_cast<int32_t>(model.vocab_size));
    batch.targets.push_back(i * 11 % static_cast<int32_t>(model.vocab_size));
    batch.weights.push_back(1);
  }
  return batch;
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

// Without the factors of FP8 weights: what is trained is not.
Shapes shapes_in(const fs::path& directory) {
  Shapes shapes;
  const SafetensorsFile file(directory / "model.safetensors");
  for (const StoredTensor& tensor : file.tensors())
    if (!tensor.name.ends_with("_scale_inv")) shapes[tensor.name] = tensor.shape;
  return shapes;
}

class Families : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Device> device = make_cpu_device(1);
  TemporaryDirectory run;
};
INSTANTIATE_TEST_SUITE_P(Models, Families, ::testing::ValuesIn(parity_model_names()),
                         parity_test_name);

TEST_P(Families, AreTheSameAfterTheyWereTrainedAndSaved) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    SCOPED_TRACE(dtype_name(dtype));
    const fs::path from = parity_models / GetParam();
    ParameterStore store =
        ParameterStore::load(std::make_shared<ModelFiles>(from), dtype, true, *device);
    const ModelConfig& model = store.config();
    Engine engine(make_plan("ma:attention=2,experts=1", model), store,
                  {.rank = {.timeout_seconds = 60, .trainable = true}});
    const std::vector<float> untrained = logits_of(engine);
    engine.train(batch_of(model), {.step = 1, .learning_rate = 1e-2f});
    const std::vector<float> trained = logits_of(engine);
    EXPECT_NE(trained, untrained);
    save_checkpoint(engine, {.step = 1}, run.path() / std::string(dtype_name(dtype)));

    const fs::path saved = run.path() / std::string(dtype_name(dtype)) / "checkpoint-1";
    EXPECT_EQ(shapes_in(saved), shapes_in(from));
    const auto files = std::make_shared<ModelFiles>(saved);
    EXPECT_TRUE(files->config() == model);
    ParameterStore again = ParameterStore::load(files, dtype, false, *device);
    Engine other(make_plan("ma:attention=2,experts=1", model), again, WorldSettings{});
    const std::vector<float> logits = logits_of(other);
    ASSERT_EQ(logits.size(), trained.size());
    EXPECT_EQ(0, std::memcmp(logits.data(), trained.data(), 4 * trained.size()));
  }
}

}  // namespace
}  // namespace tandem
