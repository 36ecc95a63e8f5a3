#include <numeric>

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

Route make_route(const Tensor& logits, int64_t k, bool normalize, bool training = true) {
  const int64_t rows = logits.rows;
  Route op{.logits = logits,
           .experts = make_matrix(rows, k, DType::i32),
           .weights = make_matrix(rows, k, DType::f32),
           .router = {.normalize = normalize}};
  if (training) {
    op.probabilities = make_matrix(rows, logits.cols, DType::f32);
    op.logsumexp = make_matrix(rows, 1, DType::f32);
  }
  return op;
}

TEST(Route, AgreesWithReference) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const int64_t count = seed % 10 == 9 ? 65536 : draw(random, 1, 600);
    const int64_t k = draw(random, 1, std::min<int64_t>(count, 64));
    const Route op = make_route(random_matrix(random, 4, count, DType::f32, 1, 3), k, seed % 2);
    cpu::run(op, 2);
    for (int64_t i = 0; i < 4; ++i) {
      double sum = 0, chosen = 0;
      for (int64_t e = 0; e < count; ++e) sum += std::exp(at(op.logits, i, e));
      EXPECT_NEAR(at(op.logsumexp, i, 0), std::log(sum), 1e-5);
      std::vector<int32_t> order(static_cast<size_t>(count));
      std::iota(order.begin(), order.end(), 0);
      const float* p = op.probabilities.row<float>(i);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
      for (int64_t j = 0; j < k; ++j)
        chosen += static_cast<double>(p[order[static_cast<size_t>(j)]]);
      for (int64_t e = 0; e < count; ++e) {
        const double expected = std::exp(at(op.logits, i, e)) / sum;
        ASSERT_NEAR(static_cast<double>(p[e]), expected, 1e-5 * expected);
      }
      for (int64_t j = 0; j < k; ++j) {
        const int32_t expert = order[static_cast<size_t>(j)];
        ASSERT_EQ(op.experts.row<int32_t>(i)[j], expert);
        const double expected = static_cast<double>(p[expert]) / (op.router.normalize ? chosen : 1);
        ASSERT_NEAR(at(op.weights, i, j), expected, 1e-5 * expected);
      }
    }
  }
}

TEST(Route, LowerExpertsGoFirstAmongEquals) {
  const Tensor logits = zero_matrix(2, 300, DType::f32);
  for (const int64_t e : {7, 150, 299}) set_element(logits, 1, e, 2);
  const Route op = make_route(logits, 5, true, false);
  cpu::run(op, 1);
  const std::vector<int32_t> first{0, 1, 2, 3, 4}, second{7, 150, 299, 0, 1};
  for (size_t j = 0; j < 5; ++j) {
    EXPECT_EQ(op.experts.row<int32_t>(0)[j], first[j]);
    EXPECT_EQ(op.experts.row<int32_t>(1)[j], second[j]);
    EXPECT_FLOAT_EQ(op.weights.row<float>(0)[j], 0.2f);
  }
}

// A bias changes who is chosen, not what they weigh.
TEST(Route, BiasChoosesAndDoesNotWeigh) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Tensor logits = zero_matrix(1, 9, DType::f32);  // all are equally likely
    Route op = make_route(logits, 3, false);
    op.bias = zero_matrix(1, 9, dtype);
    set_element(op.bias, 0, 4, 0.5f);
    set_element(op.bias, 0, 8, 0.25f);
    set_element(op.bias, 0, 0, -0.25f);
    cpu::run(op, 1);
    const std::vector<int32_t> chosen{4, 8, 1};
    for (size_t j = 0; j < 3; ++j) {
      EXPECT_EQ(op.experts.row<int32_t>(0)[j], chosen[j]);
      EXPECT_NEAR(op.weights.row<float>(0)[j], 1.0 / 9, 1e-6);
    }
  }
}

// Experts of groups that are not among the best are not chosen, however good they are.
TEST(Route, ChoosesFromTheBestGroups) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const int64_t groups = draw(random, 1, 8), size = draw(random, 1, 9), count = groups * size;
    const int64_t chosen = draw(random, 1, groups);
    Route op = make_route(random_matrix(random, 3, count, DType::f32),
                          draw(random, 1, chosen * size), true);
    op.router.sigmoid = seed % 3 == 0;
    op.router.scale = 2.5f;
    op.router.groups = groups, op.router.chosen_groups = chosen;
    if (seed % 2) op.bias = random_matrix(random, 1, count, DType::f32, 0, 0.2f);
    cpu::run(op, 2);
    for (int64_t row = 0; row < 3; ++row) {
      const auto score = [&](int64_t e) {
        return op.probabilities.row<float>(row)[e] + (op.bias ? op.bias.row<float>(0)[e] : 0.0f);
      };
      std::vector<std::pair<double, int64_t>> worth;
      for (int64_t g = 0; g < groups; ++g) {
        std::vector<double> scores;
        for (int64_t e = g * size; e < (g + 1) * size; ++e)
          scores.push_back(static_cast<double>(score(e)));
        std::ranges::sort(scores, std::greater{});
        worth.emplace_back(-(scores[0] + (op.bias && size > 1 ? scores[1] : 0)), g);
      }
      std::ranges::sort(worth);
      std::vector<std::pair<float, int64_t>> order;
      for (int64_t i = 0; i < chosen; ++i)
        for (int64_t e = 0; e < size; ++e) {
          const int64_t expert = worth[static_cast<size_t>(i)].second * size + e;
          order.emplace_back(-score(expert), expert);
        }
      std::ranges::sort(order);
      double sum = 0;
      for (int64_t j = 0; j < op.experts.cols; ++j) {
        ASSERT_EQ(op.experts.row<int32_t>(row)[j], order[static_cast<size_t>(j)].second);
        sum += at(op.weights, row, j);
      }
      EXPECT_NEAR(sum, 2.5, 1e-5);
    }
  }
}

TEST(Route, NotANumberStillChoosesExperts) {
  const Tensor logits = zero_matrix(1, 8, DType::f32);
  set_element(logits, 0, 3, NAN);
  const Route op = make_route(logits, 2, true);
  cpu::run(op, 1);
  EXPECT_EQ(op.experts.row<int32_t>(0)[0], 0);
  EXPECT_EQ(op.experts.row<int32_t>(0)[1], 1);
}

TEST(Route, RowsStandAlone) {
  Random random(2);
  const Route whole = make_route(random_matrix(random, 300, 131, DType::f32), 6, true);
  cpu::run(whole, 1);
  for (const int threads : {1, 4}) {
    for (const Interval rows : {Interval{0, 1}, Interval{17, 18}, Interval{40, 299}}) {
      const Route part = make_route(whole.logits.slice_rows(rows), 6, true);
      cpu::run(part, threads);
      expect_same_bits(part.weights, whole.weights.slice_rows(rows));
      expect_same_bits(part.probabilities, whole.probabilities.slice_rows(rows));
      expect_same_bits(part.logsumexp, whole.logsumexp.slice_rows(rows));
    }
  }
}

// What the gradient is of: sum dweights * weights + balance . p + z_scale * logsumexp^2, in double,
// with the experts that were chosen.
double routed_loss(const Route& op, const Tensor& dweights, const float* balance, double z_scale,
                   int64_t row) {
  const int64_t count = op.logits.cols, k = op.experts.cols;
  double sum = 0, loss = 0, chosen = 0;
  const auto weight = [&](int64_t e) {
    const double grown = std::exp(at(op.logits, row, e));
    return op.router.sigmoid ? grown / (1 + grown) : grown;
  };
  for (int64_t e = 0; e < count; ++e) sum += weight(e);
  const auto share = [&](int64_t e) { return weight(e) / sum; };
  const auto p = [&](int64_t e) { return op.router.sigmoid ? weight(e) : share(e); };
  const int32_t* experts = op.experts.row<int32_t>(row);
  for (int64_t j = 0; j < k; ++j) chosen += p(experts[j]);
  for (int64_t j = 0; j < k; ++j) {
    loss += static_cast<double>(op.router.scale) * at(dweights, row, j) * p(experts[j]) /
            (op.router.normalize ? chosen : 1);
  }
  for (int64_t e = 0; balance && e < count; ++e) loss += static_cast<double>(balance[e]) * share(e);
  return loss + z_scale * std::log(sum) * std::log(sum);
}

TEST(RouteBackward, AgreesWithDifferences) {
  for (uint64_t seed = 0; seed < 32; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const int64_t rows = 5, count = draw(random, 2, 40),
                  k = draw(random, 1, std::min<int64_t>(count, 8));
    Route route = make_route(random_matrix(random, rows, count, DType::f32), k, seed % 2);
    route.router.sigmoid = seed % 5 < 2;
    route.router.scale = seed % 7 ? 1.0f : 1.75f;
    cpu::run(route, 1);
    const std::vector<int32_t> groups{0, 1, -1, 2, 0};  // the third row has no auxiliary losses
    const float z_scale = seed % 3 && !route.router.sigmoid ? 0.25f : 0;
    RouteBackward op{route.probabilities,
                     route.logsumexp,
                     route.experts,
                     random_matrix(random, rows, k, DType::f32),
                     make_matrix(rows, count, DType::f32),
                     {},
                     groups,
                     z_scale,
                     route.router};
    if (seed % 4 < 2) op.balance = random_matrix(random, 3, count, DType::f32);
    cpu::run(op, 2);
    for (int64_t i = 0; i < rows; ++i) {
      const int32_t group = groups[static_cast<size_t>(i)];
      const float* balance =
          op.balance.empty() || group < 0 ? nullptr : op.balance.row<float>(group);
      const double z = group < 0 ? 0 : static_cast<double>(z_scale);
      for (int64_t e = 0; e < count; ++e) {
        float& logit = route.logits.row<float>(i)[e];
        const float kept = logit;
        logit = kept + 1e-2f;
        const double above = static_cast<double>(logit);
        const double upper = routed_loss(route, op.dweights, balance, z, i);
        logit = kept - 1e-2f;
        const double lower = routed_loss(route, op.dweights, balance, z, i);
        const double width = above - static_cast<double>(logit);
        logit = kept;
        ASSERT_NEAR(at(op.dlogits, i, e), (upper - lower) / width, 2e-4);
      }
    }
  }
}

// Weights count where an expert has rows; shapes alone are enough.
TEST(Experts, CostsWhatShapesSay) {
  const auto shape = [](int64_t rows, int64_t cols) {
    return Tensor{.dtype = DType::bf16, .rows = rows, .cols = cols, .stride = cols};
  };
  const std::vector<ExpertMatrices> weights(3, {shape(48, 32), shape(48, 32), shape(32, 48)});
  const std::vector<Tensor> sources{shape(10, 32)};
  const std::vector<RowRef> rows(5);
  const std::vector<int32_t> offsets{0, 2, 2, 5};
  Experts op{.in = {sources, rows}, .out = {sources, rows}, .offsets = offsets, .weights = weights};
  EXPECT_EQ(op.cost().flops, 2 * 5 * 3 * 32 * 48);
  EXPECT_EQ(op.cost().bytes, 2 * (2 * 3 * 32 * 48 + 2 * 5 * 32));
  const Linear linear{shape(5, 32), shape(48, 32), {}, shape(5, 48)};
  EXPECT_EQ(linear.cost().flops, 2 * 5 * 48 * 32);
  EXPECT_EQ(linear.cost().bytes, 2 * (5 * 32 + 48 * 32 + 5 * 48));
}

struct Mixture {
  Mixture(Random& random, DType dtype, int64_t tokens, int64_t cols) {
    for (int i = 0; i < 3; ++i) sources.push_back(random_matrix(random, 20, cols, dtype, i));
    for (int i = 0; i < 2; ++i) gradients.push_back(zero_matrix(3 * tokens, cols, dtype));
    weights = random_matrix(random, tokens, 4, DType::f32);
    out = make_matrix(tokens, cols, dtype);
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t n = draw(random, 0, 3); n > 0; --n) {
        const int32_t source = static_cast<int32_t>(draw(random, -1, 2));
        const int32_t slot = static_cast<int32_t>(draw(random, -1, 3));
        gradient_rows.push_back(
            {static_cast<int32_t>(terms.size() % 2), static_cast<int32_t>(terms.size())});
        terms.push_back({{source, static_cast<int32_t>(draw(random, 0, 19))}, slot});
      }
      offsets.push_back(static_cast<int32_t>(terms.size()));
    }
  }
  Combine forward() const { return {sources, terms, offsets, weights, out}; }
  float weight(int64_t token, const CombineTerm& term) const {
    return term.slot < 0 ? 1 : element(weights, token, term.slot);
  }
  std::vector<Tensor> sources, gradients;
  std::vector<CombineTerm> terms;
  std::vector<int32_t> offsets{0};
  std::vector<RowRef> gradient_rows;
  Tensor weights, out;
};

TEST(Combine, AgreesWithReferenceForwardAndBackward) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const DType dtype = seed % 2 ? DType::bf16 : DType::f32;
    const int64_t tokens = draw(random, 1, 8), cols = draw(random, 1, 2100);
    const Mixture m(random, dtype, tokens, cols);
    cpu::run(m.forward(), 2);
    const CombineBackward backward{m.sources,
                                   m.terms,
                                   m.offsets,
                                   m.weights,
                                   random_matrix(random, tokens, cols, DType::f32),
                                   random_matrix(random, tokens, 4, DType::f32),
                                   {m.gradients, m.gradient_rows}};
    cpu::run(backward, 2);
    Reference out(tokens, cols), dweights(tokens, 4);
    for (int64_t t = 0; t < tokens; ++t) {
      for (size_t i = static_cast<size_t>(m.offsets[static_cast<size_t>(t)]);
           i < static_cast<size_t>(m.offsets[static_cast<size_t>(t) + 1]); ++i) {
        const CombineTerm& term = m.terms[i];
        for (int64_t j = 0; j < cols; ++j) {
          const double expected = static_cast<double>(m.weight(t, term)) * at(backward.dout, t, j);
          const double found = at(m.gradients[i % 2], static_cast<int64_t>(i), j);
          ASSERT_NEAR(found, expected, std::abs(expected) * (dtype == DType::bf16 ? 0x1p-8 : 1e-6));
          if (term.row.source < 0) continue;
          const double x = at(m.sources[static_cast<size_t>(term.row.source)], term.row.row, j);
          out.add(t, j, static_cast<double>(m.weight(t, term)) * x);
          if (term.slot >= 0) dweights.add(t, term.slot, x * at(backward.dout, t, j));
        }
      }
    }
    expect_near(m.out, out);
    expect_near(backward.dweights, dweights);
  }
}

TEST(Combine, TokensStandAlone) {
  Random random(3);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Mixture m(random, dtype, 40, 3001);
    cpu::run(m.forward(), 1);
    Combine op = m.forward();
    op.out = make_matrix(40, 3001, dtype);
    cpu::run(op, 4);
    expect_same_bits(op.out, m.out);
    for (int64_t t = 0; t < 40; ++t) {
      Combine one = m.forward();
      one.offsets = one.offsets.subspan(static_cast<size_t>(t), 2);
      one.weights = m.weights.slice_rows({t, t + 1});
      one.out = make_matrix(1, 3001, dtype);
      cpu::run(one, 1);
      expect_same_bits(one.out, m.out.slice_rows({t, t + 1}));
    }
  }
}

}  // namespace
}  // namespace tandem::testing
