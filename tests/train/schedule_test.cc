#include "tandem/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "tandem/base/error.h"

namespace tandem {
namespace {

TEST(LearningRate, WarmUpIsLinear) {
  const LearningRate rate{.peak = 1, .warmup_steps = 4, .total_steps = 14};
  EXPECT_DOUBLE_EQ(rate.at(0), 0.25);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(3), 1);
}

TEST(LearningRate, CosineFallsToTheMinimum) {
  const LearningRate rate{.peak = 2, .warmup_steps = 4, .total_steps = 14};
  EXPECT_DOUBLE_EQ(rate.at(8), 2 * (0.1 + 0.9 * 0.5));  // half way
  EXPECT_DOUBLE_EQ(rate.at(4), 2 * (0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi / 10))));
  EXPECT_DOUBLE_EQ(rate.at(13), 0.2);
  EXPECT_DOUBLE_EQ(rate.at(1000), 0.2);
  for (int64_t step = 4; step < 14; ++step) EXPECT_LT(rate.at(step), rate.at(step - 1));
}

TEST(LearningRate, MinimumMayBeZeroAndWarmUpNone) {
  const LearningRate rate{.peak = 3, .total_steps = 2, .min_ratio = 0};
  EXPECT_DOUBLE_EQ(rate.at(0), 1.5);
  EXPECT_DOUBLE_EQ(rate.at(1), 0);
  const LearningRate warm{.peak = 1, .warmup_steps = 5, .total_steps = 5};
  EXPECT_DOUBLE_EQ(warm.at(4), 1);
  EXPECT_DOUBLE_EQ(warm.at(5), 0.1);
}

TEST(LearningRate, ValidationNamesTheField) {
  const auto mistake = [](const LearningRate& rate) {
    try {
      rate.validate();
    } catch (const InputError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(mistake({.peak = 1, .total_steps = 1}), "");
  EXPECT_EQ(mistake({.peak = 0, .total_steps = 1}), "learning rate must be above 0, not 0");
  EXPECT_EQ(mistake({.peak = 1}), "steps must be at least 1, not 0");
  EXPECT_EQ(mistake({.peak = 1, .warmup_steps = 6, .total_steps = 5}),
            "warmup_steps must be 0 to the 5 steps of the run, not 6");
  EXPECT_EQ(mistake({.peak = 1, .total_steps = 1, .min_ratio = 1.5}),
            "learning rate min_ratio must be 0 to 1, not 1.5");
}

}  // namespace
}  // namespace tandem
