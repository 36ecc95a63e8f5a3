#include "tandem/trace/expert_load.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tandem {
namespace {

TEST(ExpertLoad, ExactFigures) {
  const std::vector<int64_t> tokens{10, 20, 30, 40};
  const ExpertLoad load = expert_load(tokens);
  EXPECT_EQ(load.tokens, 100);
  EXPECT_EQ(load.shares, (std::vector<double>{0.1, 0.2, 0.3, 0.4}));
  EXPECT_DOUBLE_EQ(load.share_deviation, std::sqrt(0.0125));
  EXPECT_DOUBLE_EQ(load.max_over_mean, 1.6);
  EXPECT_DOUBLE_EQ(load.max_over_min, 4);
  EXPECT_DOUBLE_EQ(load.used_share, 1);
}

TEST(ExpertLoad, EvenLoad) {
  const std::vector<int64_t> tokens(8, 5);
  const ExpertLoad load = expert_load(tokens);
  EXPECT_DOUBLE_EQ(load.max_over_mean, 1);
  EXPECT_DOUBLE_EQ(load.max_over_min, 1);
  EXPECT_NEAR(load.share_deviation, 0, 1e-15);
}

TEST(ExpertLoad, ExpertsWithoutTokens) {
  const std::vector<int64_t> tokens{0, 6, 0, 2};
  const ExpertLoad load = expert_load(tokens);
  EXPECT_TRUE(std::isinf(load.max_over_min));
  EXPECT_DOUBLE_EQ(load.max_over_mean, 3);
  EXPECT_DOUBLE_EQ(load.used_share, 0.5);
}

TEST(ExpertLoad, NoTokensAtAll) {
  const std::vector<int64_t> tokens(3);
  const ExpertLoad load = expert_load(tokens);
  EXPECT_EQ(load.shares, std::vector<double>(3, 0.0));
  EXPECT_DOUBLE_EQ(load.max_over_mean, 0);
  EXPECT_DOUBLE_EQ(load.used_share, 0);
}

TEST(ExpertCounts, LayersAndTotal) {
  ExpertCounts counts(2, 3);
  counts.add(0, 0, 4);
  counts.add(0, 0, 1);
  counts.add(0, 2, 5);
  counts.add(1, 1, 7);
  EXPECT_EQ(counts.total(), (std::vector<int64_t>{5, 7, 5}));
  const auto loads = expert_load_by_layer(counts);
  ASSERT_EQ(loads.size(), 2u);
  EXPECT_EQ(loads[0].tokens, 10);
  EXPECT_DOUBLE_EQ(loads[0].max_over_mean, 1.5);
  EXPECT_DOUBLE_EQ(loads[1].used_share, 1.0 / 3);
}

}  // namespace
}  // namespace tandem
