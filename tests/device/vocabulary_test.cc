#include <set>

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

// A vocabulary in slices: losses and gradients against the whole, in double.
TEST(Vocabulary, SlicesMakeTheLossOfTheWhole) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const DType dtype = seed % 2 ? DType::bf16 : DType::f32;
    const int64_t rows = draw(random, 1, 6), vocabulary = draw(random, 3, 900);
    const int64_t slices = draw(random, 1, 3);
    const Tensor logits = random_matrix(random, rows, vocabulary, dtype, 0, 4);
    std::vector<float> row_weights;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < rows; ++i) {
      row_weights.push_back(draw(random, 0, 3) ? 0.5f : 0.0f);
      tokens.push_back(static_cast<int32_t>(draw(random, 0, vocabulary - 1)));
    }
    std::vector<Tensor> parts;
    std::vector<std::vector<int32_t>> targets;
    for (int64_t s = 0; s < slices; ++s) {
      const Interval cols = part(vocabulary, slices, s);
      targets.emplace_back();
      for (const int32_t token : tokens) {
        targets.back().push_back(token - static_cast<int32_t>(cols.begin));
      }
      parts.push_back(make_matrix(rows, 3, DType::f32));
      cpu::run(VocabularyStatistics{logits.slice_cols(cols), parts.back(), targets.back()}, 2);
    }
    const Tensor loss = make_matrix(rows, 2, DType::f32), dlogits = copy_of(logits);
    cpu::run(JoinStatistics{parts, row_weights, loss}, 1);
    for (int64_t s = 0; s < slices; ++s) {
      const Interval cols = part(vocabulary, slices, s);
      cpu::run(VocabularyGradient{logits.slice_cols(cols), loss, dlogits.slice_cols(cols),
                                  targets[static_cast<size_t>(s)], row_weights},
               2);
    }
    for (int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < vocabulary; ++j) sum += std::exp(at(logits, i, j));
      const int32_t token = tokens[static_cast<size_t>(i)];
      const double weight = static_cast<double>(row_weights[static_cast<size_t>(i)]);
      EXPECT_NEAR(at(loss, i, 0), std::log(sum), 1e-5);
      EXPECT_NEAR(at(loss, i, 1), weight > 0 ? std::log(sum) - at(logits, i, token) : 0, 2e-5);
      for (int64_t j = 0; j < vocabulary; ++j) {
        const double expected = weight * (std::exp(at(logits, i, j)) / sum - (j == token ? 1 : 0));
        const double relative = dtype == DType::bf16 ? 0x1p-8 : 1e-5;
        ASSERT_NEAR(at(dlogits, i, j), expected, relative * std::abs(expected) + 1e-7);
      }
    }
  }
}

struct Logits {
  explicit Logits(const Tensor& whole, int64_t first)
      : tokens(make_matrix(whole.rows, 1, DType::i32)) {
    slices = {whole.slice_cols({0, first}), whole.slice_cols({first, whole.cols})};
  }
  std::vector<int32_t> sample(const std::vector<Sampling>& rows, int threads = 1) const {
    cpu::run(Sample{slices, rows, tokens}, threads);
    return {tokens.row<int32_t>(0), tokens.row<int32_t>(0) + tokens.rows};
  }
  std::vector<Tensor> slices;
  Tensor tokens;
};

TEST(Sample, GreedyTakesTheFirstLargest) {
  Random random(1);
  const Tensor whole = random_matrix(random, 5, 1000, DType::f32);
  for (const int64_t j : {400, 800}) set_element(whole, 0, j, 50);
  set_element(whole, 1, 999, 50);
  set_element(whole, 2, 3, NAN);
  set_element(whole, 2, 7, 50);
  for (int64_t j = 0; j < 1000; ++j) set_element(whole, 3, j, NAN);
  for (int64_t j = 0; j < 1000; ++j) set_element(whole, 4, j, j == 777 ? -INFINITY : NAN);
  const std::vector<int32_t> expected{400, 999, 7, 0, 0};
  EXPECT_EQ(Logits(whole, 500).sample(std::vector<Sampling>(5)), expected);
  EXPECT_EQ(Logits(whole, 0).sample(std::vector<Sampling>(5), 3), expected);
  const std::vector<Sampling> hot(5, {.temperature = 1, .top_k = 3, .top_p = 0.5f});
  const std::vector<int32_t> drawn = Logits(whole, 500).sample(hot);
  EXPECT_TRUE(drawn[0] == 400 || drawn[0] == 800);
  EXPECT_EQ(drawn[2], 7);
}

// Draws at many positions from one row of logits.
std::vector<int32_t> draws(const Tensor& row, Sampling how, int64_t count) {
  const Tensor many = make_matrix(count, row.cols, DType::f32);
  std::vector<Sampling> rows(static_cast<size_t>(count), how);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(many.row_bytes(i), row.row_bytes(0), static_cast<size_t>(row.bytes()));
    rows[static_cast<size_t>(i)].position = i;
  }
  const std::vector<int32_t> tokens = Logits(many, row.cols / 3).sample(rows, 2);
  EXPECT_EQ(tokens, Logits(many, 1).sample(rows, 1));
  return tokens;
}

TEST(Sample, FollowsTheDistribution) {
  const Tensor row = make_matrix(1, 6, DType::f32);
  const double p[] = {0.05, 0.4, 0.1, 0.25, 0.15, 0.05};
  for (int64_t j = 0; j < 6; ++j) set_element(row, 0, j, static_cast<float>(2 * std::log(p[j])));
  std::vector<double> share(6);
  for (const int32_t token : draws(row, {.temperature = 2, .seed = 5}, 20000)) {
    share[static_cast<size_t>(token)] += 1.0 / 20000;
  }
  for (size_t j = 0; j < 6; ++j) EXPECT_NEAR(share[j], p[j], 0.015);
}

TEST(Sample, KeepsTheLargestAndTheNucleus) {
  const Tensor row = make_matrix(1, 6, DType::f32);
  const double p[] = {0.05, 0.4, 0.1, 0.25, 0.15, 0.05};
  for (int64_t j = 0; j < 6; ++j) set_element(row, 0, j, static_cast<float>(std::log(p[j])));
  const auto kinds = [&](Sampling how) {
    const std::vector<int32_t> tokens = draws(row, how, 2000);
    return std::set<int32_t>(tokens.begin(), tokens.end());
  };
  EXPECT_EQ(kinds({.temperature = 1, .top_k = 2}), (std::set<int32_t>{1, 3}));
  EXPECT_EQ(kinds({.temperature = 1, .top_k = 5}), (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(kinds({.temperature = 1, .top_p = 0.6f}), (std::set<int32_t>{1, 3}));
  EXPECT_EQ(kinds({.temperature = 1, .top_p = 0.7f}), (std::set<int32_t>{1, 3, 4}));
  EXPECT_EQ(kinds({.temperature = 1, .top_p = 0.0f}), (std::set<int32_t>{1}));
  EXPECT_EQ(kinds({.temperature = 1, .top_k = 3, .top_p = 0.4f}), (std::set<int32_t>{1}));
}

TEST(Sample, TheNucleusOfManyEqualTokens) {
  const Tensor row = zero_matrix(1, 3000, DType::f32);
  for (const int32_t token : draws(row, {.temperature = 1, .top_p = 0.5f}, 500)) {
    EXPECT_LT(token, 1502);
  }
}

}  // namespace
}  // namespace tandem::testing
