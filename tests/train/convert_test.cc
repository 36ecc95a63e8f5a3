// Models written in another dtype, and dense ones as mixtures, against what they were made of.
#include <gtest/gtest.h>

#include <cstring>

#include "model/parity_models.h"
#include "model/temporary_directory.h"
#include "tandem/device/block_scales.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/model/upcycle.h"
#include "tandem/plan/shorthand.h"
#include "tandem/state/model_writer.h"
#include "train/logits.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

void expect_same_bits(const Tensor& actual, const Tensor& expected) {
  ASSERT_EQ(actual.dtype, expected.dtype);
  ASSERT_EQ(actual.rows, expected.rows);
  ASSERT_EQ(actual.cols, expected.cols);
  for (int64_t row = 0; row < actual.rows; ++row)
    ASSERT_EQ(std::memcmp(actual.row_bytes(row), expected.row_bytes(row),
                          static_cast<size_t>(actual.cols * size_of(actual.dtype))),
              0);
}

class Converted : public ::testing::TestWithParam<std::string> {
 protected:
  ParameterStore load(const fs::path& model, DType dtype) const {
    return ParameterStore::load(std::make_shared<ModelFiles>(model), dtype, false, *device);
  }
  std::unique_ptr<Device> device = make_cpu_device(1);
  TemporaryDirectory directory;
};
INSTANTIATE_TEST_SUITE_P(Models, Converted, ::testing::ValuesIn(parity_model_names()),
                         parity_test_name);

TEST_P(Converted, IsReadAsItWasWritten) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::fp8}) {
    SCOPED_TRACE(dtype_name(dtype));
    const ParameterStore before = load(parity_models / GetParam(), dtype);
    const fs::path to = directory / dtype_name(dtype);
    write_model_directory(
        to, before.config(), dtype, [&](const Parameter& p) { return before.whole(p.id); },
        [](const fs::path&) {});
    const ParameterStore after = load(to, dtype);
    ASSERT_TRUE(after.config() == before.config());
    for (const Parameter& p : parameters(after.config())) {
      SCOPED_TRACE(p.name);
      const Tensor actual = after.whole(p.id), expected = before.whole(p.id);
      expect_same_bits(actual, expected);
      if (actual.dtype == DType::fp8)
        expect_same_bits(*scales_of(actual).factors, *scales_of(expected).factors);
    }
    EXPECT_FALSE(fs::exists(to.string() + ".partial"));
  }
}

std::vector<float> logits_of(const ParameterStore& store, const std::string& plan) {
  ParameterStore weights = store;
  Engine engine(make_plan(plan, store.config()), weights, WorldSettings{});
  return logits_of(engine);
}

TEST_P(Converted, DenseModelsAreTheSameFunctionAsMixtures) {
  const ParameterStore dense = load(parity_models / GetParam(), DType::f32);
  if (dense.config().experts > 1) {
    EXPECT_THROW(upcycled(dense.config(), 4, 2), InputError);
    return;
  }
  const ModelConfig config = upcycled(dense.config(), 5, 2);
  const fs::path to = directory / "mixture";
  write_model_directory(
      to, config, DType::f32,
      [&](const Parameter& p) {
        const auto origin = origin_of(p.id);
        return origin ? dense.whole(*origin)
                      : random_parameter(config, p, static_cast<uint64_t>(p.id.layer), 3,
                                         DType::f32, *device);
      },
      [](const fs::path&) {});
  const auto expected = logits_of(dense, "single");
  for (const char* plan : {"single", "ma:attention=2,experts=3"}) {
    const auto actual = logits_of(load(to, DType::f32), plan);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(actual[i], expected[i], 1e-5) << plan << ", " << i;
  }
}

TEST(Upcycling, RefusesCountsThatMakeNoMixture) {
  const ModelConfig dense = read_config(parity_models / "llama" / "config.json");
  EXPECT_THROW(upcycled(dense, 1, 1), InputError);
  EXPECT_THROW(upcycled(dense, 4, 5), InputError);
  EXPECT_THROW(upcycled(dense, 4, 0), InputError);
}

TEST(ModelWriter, LeavesWhatIsThereAlone) {
  const auto device = make_cpu_device(1);
  const ModelConfig config = read_config(parity_models / "llama" / "config.json");
  const ParameterStore store = ParameterStore::random(config, 1, DType::f32, *device);
  const TemporaryDirectory directory;
  const auto write = [&](const fs::path& to) {
    write_model_directory(
        to, config, DType::f32, [&](const Parameter& p) { return store.whole(p.id); },
        [](const fs::path&) {});
  };
  EXPECT_THROW(write(directory / ""), InputError);
  EXPECT_THROW(write("/proc/tandem/model"), WorldError);
}

}  // namespace
}  // namespace tandem
