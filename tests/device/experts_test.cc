#include <numeric>

#include "device/matrices.h"
#include "tandem/device/cpu/activation.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

double act(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x * 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return 0;
}
double slope(Activation activation, double x) {
  constexpr double step = 1e-5;
  return (act(activation, x + step) - act(activation, x - step)) / (2 * step);
}

constexpr Activation activations[] = {Activation::silu, Activation::gelu, Activation::gelu_tanh};

TEST(Activations, MatchTheirDefinitionAnywhereInAnArray) {
  std::vector<float> x;
  for (float v = -20; v <= 20; v += 0.037f) x.push_back(v);
  for (const float v : {-1e30f, -100.0f, -1e-20f, 0.0f, 1e-20f, 100.0f, 1e30f}) x.push_back(v);
  const std::vector<float> ones(x.size(), 1.0f);
  for (const Activation activation : activations) {
    SCOPED_TRACE(static_cast<int>(activation));
    std::vector<float> h(x.size()), again(x.size()), unused(x.size()), derivative(x.size());
    const cpu::Hidden in{
        .activation = activation, .up = x.data(), .count = static_cast<int64_t>(x.size())};
    cpu::hidden(in, h.data());
    cpu::hidden_backward(in, ones.data(), again.data(), unused.data(), derivative.data());
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = act(activation, double{x[i]});
      ASSERT_NEAR(h[i], want, 2e-6 * std::abs(x[i]) + 1e-9) << x[i];
      ASSERT_EQ(h[i], again[i]);
      if (std::abs(x[i]) < 30) {
        ASSERT_NEAR(derivative[i], slope(activation, double{x[i]}), 4e-6) << x[i];
      }
      float alone = 0;
      cpu::hidden({.activation = activation, .up = &x[i], .count = 1}, &alone);
      ASSERT_EQ(h[i], alone) << x[i];
    }
  }
}

// An operation with everything it points to.
struct Case {
  int64_t hidden = 0, features = 0;
  bool gated = true, keep = false;
  float dropout = 0;
  Activation activation = Activation::silu;
  std::vector<int32_t> offsets;
  std::vector<ExpertMatrices> weights, gradients;
  std::vector<Tensor> x, dy;  // two sources each
  std::vector<RowRef> rows, out_rows;
  std::vector<uint64_t> keys;
  Tensor gate, up;

  int64_t pairs() const { return offsets.back(); }
  Dropout dropout_of() const {
    return {.probability = dropout,
            .seed = 3,
            .stream = RandomStream::expert_dropout,
            .step = 2,
            .layer = 1,
            .keys = keys,
            .first_feature = 6};
  }
  float mask(int64_t row, int64_t f) const {
    if (dropout == 0) return 1;
    const uint64_t key = keys[static_cast<size_t>(row)];
    const auto feature = static_cast<uint64_t>(6 + f);
    return dropout_of().source().uniform(key, feature) >= dropout ? 1 / (1 - dropout) : 0;
  }
};

Case make_case(Random& random, DType dtype, std::vector<int32_t> counts, int64_t hidden,
               int64_t features, bool gated, float dropout) {
  Case c{.hidden = hidden, .features = features, .gated = gated, .dropout = dropout};
  c.activation = activations[draw(random, 0, 2)];
  c.offsets.assign(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), c.offsets.begin() + 1);
  const float scale = 1 / std::sqrt(static_cast<float>(hidden));
  for (size_t e = 0; e < counts.size(); ++e) {
    // As slices of a split expert lie in the whole one.
    const auto matrix = [&](int64_t rows, int64_t cols, int64_t padding) {
      return random_matrix(random, rows, cols, dtype, padding, scale);
    };
    const auto gradient = [&](int64_t rows, int64_t cols) {
      return random_matrix(random, rows, cols, DType::f32, draw(random, 0, 3));
    };
    c.weights.push_back({gated ? matrix(features, hidden, 4) : Tensor{},
                         matrix(features, hidden, 4), matrix(hidden, features, 10)});
    c.gradients.push_back({gated ? gradient(features, hidden) : Tensor{},
                           gradient(features, hidden), gradient(hidden, features)});
  }
  const int64_t pairs = c.pairs();
  for (int i = 0; i < 2; ++i) {
    c.x.push_back(random_matrix(random, pairs + 3, hidden, dtype, 5));
    c.dy.push_back(random_matrix(random, pairs + 3, hidden, dtype, 5));
  }
  for (int32_t i = 0; i < pairs; ++i) {
    c.rows.push_back({static_cast<int32_t>(draw(random, 0, 1)),
                      static_cast<int32_t>(draw(random, 0, pairs + 2))});
    c.out_rows.push_back({i % 2, static_cast<int32_t>(pairs + 2 - i)});
    c.keys.push_back(random());
  }
  c.gate = gated ? make_matrix(pairs, features, dtype) : Tensor{};
  c.up = make_matrix(pairs, features, dtype);
  return c;
}

// Results of the forward pass, row by row.
Tensor forward(const Case& c, DType dtype, bool keep, int threads) {
  std::vector<Tensor> out;
  for (int i = 0; i < 2; ++i) out.push_back(make_matrix(c.pairs() + 3, c.hidden, dtype, 3));
  cpu::run(Experts{.in = {c.x, c.rows},
                   .out = {out, c.out_rows},
                   .offsets = c.offsets,
                   .weights = c.weights,
                   .activation = c.activation,
                   .gate = keep ? c.gate : Tensor{},
                   .up = keep ? c.up : Tensor{},
                   .dropout = c.dropout_of()},
           threads);
  const Tensor rows = make_matrix(c.pairs(), c.hidden, dtype);
  for (int64_t i = 0; i < c.pairs(); ++i) {
    const RowRef at = c.out_rows[static_cast<size_t>(i)];
    std::memcpy(rows.row_bytes(i), out[static_cast<size_t>(at.source)].row_bytes(at.row),
                static_cast<size_t>(c.hidden * size_of(dtype)));
  }
  return rows;
}

double rounded(double x, DType dtype) {
  const auto value = static_cast<float>(x);
  return dtype == DType::bf16 ? cpu::to_float(cpu::to_bf16(value)) : value;
}

float picked(const std::vector<Tensor>& sources, const RowRef& at, int64_t j) {
  return element(sources[static_cast<size_t>(at.source)], at.row, j);
}

// In double precision, from the pre-activations that the operation kept.
struct Expected {
  Reference gate, up, out, dx;
  std::vector<Reference> dgate, dup, ddown;
};

size_t expert_of(const Case& c, int64_t row) {
  size_t e = 0;
  while (c.offsets[e + 1] <= row) ++e;
  return e;
}

Expected expect(const Case& c, DType dtype) {
  const int64_t pairs = c.pairs(), n = c.features;
  Expected r{Reference(pairs, n),
             Reference(pairs, n),
             Reference(pairs, c.hidden),
             Reference(pairs, c.hidden),
             {},
             {},
             {}};
  for (const ExpertMatrices& g : c.gradients) {
    r.dgate.push_back(c.gated ? Reference(g.gate) : Reference(0, 0));
    r.dup.emplace_back(g.up);
    r.ddown.emplace_back(g.down);
  }
  for (int64_t i = 0; i < pairs; ++i) {
    const size_t e = expert_of(c, i);
    const ExpertMatrices& w = c.weights[e];
    const RowRef at = c.rows[static_cast<size_t>(i)];
    for (int64_t f = 0; f < n; ++f) {
      double dh = 0;
      for (int64_t j = 0; j < c.hidden; ++j) {
        const double x = picked(c.x, at, j);
        if (c.gated) r.gate.add(i, f, x * element(w.gate, f, j));
        r.up.add(i, f, x * element(w.up, f, j));
        dh += double{picked(c.dy, at, j)} * element(w.down, j, f);
      }
      const double up = element(c.up, i, f), mask = c.mask(i, f);
      const double gate = c.gated ? element(c.gate, i, f) : up;
      const double other = c.gated ? up : 1;
      const double h = rounded(act(c.activation, gate) * other * mask, dtype);
      const double dslope = dh * mask * other * slope(c.activation, gate);
      const double dgate = rounded(dslope, dtype);
      const double dup = c.gated ? rounded(dh * mask * act(c.activation, gate), dtype) : dgate;
      for (int64_t j = 0; j < c.hidden; ++j) {
        r.out.add(i, j, h * element(w.down, j, f));
        r.ddown[e].add(j, f, h * picked(c.dy, at, j));
        r.dup[e].add(f, j, dup * picked(c.x, at, j));
        r.dx.add(i, j, dup * element(w.up, f, j));
        if (!c.gated) continue;
        r.dgate[e].add(f, j, dgate * picked(c.x, at, j));
        r.dx.add(i, j, dgate * element(w.gate, f, j));
      }
    }
  }
  return r;
}

Tensor backward(const Case& c, DType dtype, std::span<const ExpertMatrices> gradients,
                int threads) {
  const std::vector<Tensor> dx = {make_matrix(c.pairs(), c.hidden, dtype, 1)};
  std::vector<RowRef> dx_rows;
  for (int32_t i = 0; i < c.pairs(); ++i) dx_rows.push_back({0, i});
  cpu::run(ExpertsBackward{.in = {c.x, c.rows},
                           .dy = {c.dy, c.rows},
                           .dx = {dx, dx_rows},
                           .offsets = c.offsets,
                           .weights = c.weights,
                           .gradients = gradients,
                           .activation = c.activation,
                           .gate = c.gate,
                           .up = c.up,
                           .dropout = c.dropout_of()},
           threads);
  return dx[0];
}

std::vector<ExpertMatrices> copies_of(const std::vector<ExpertMatrices>& all) {
  std::vector<ExpertMatrices> copies;
  for (const ExpertMatrices& m : all)
    copies.push_back({m.gate ? copy_of(m.gate) : Tensor{}, copy_of(m.up), copy_of(m.down)});
  return copies;
}

class ExpertProducts : public EveryWay {
 protected:
  // Rounding of h and its gradients in bf16 can fall either way.
  double precision() const { return dtype() == DType::bf16 ? 4e-3 : 2e-5; }
};
INSTANTIATE_TEST_SUITE_P(All, ExpertProducts, ::testing::ValuesIn(ways),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(ExpertProducts, RandomCasesMatchTheReference) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Random random(seed);
    std::vector<int32_t> counts;
    for (int64_t e = draw(random, 1, 5); e > 0; --e)
      counts.push_back(static_cast<int32_t>(draw(random, 0, 2) ? draw(random, 0, 40) : 0));
    const Case c = make_case(random, dtype(), counts, draw(random, 1, 90), draw(random, 1, 90),
                             draw(random, 0, 1), draw(random, 0, 1) ? 0.25f : 0.0f);
    const auto threads = static_cast<int>(draw(random, 1, 3));
    const Tensor out = forward(c, dtype(), true, threads);
    const Expected expected = expect(c, dtype());
    if (c.gated) {
      ASSERT_NO_FATAL_FAILURE(expect_near(c.gate, expected.gate));
    }
    ASSERT_NO_FATAL_FAILURE(expect_near(c.up, expected.up));
    ASSERT_NO_FATAL_FAILURE(expect_near(out, expected.out, precision()));

    const Tensor dx = backward(c, dtype(), c.gradients, threads);
    ASSERT_NO_FATAL_FAILURE(expect_near(dx, expected.dx, precision()));
    for (size_t e = 0; e < counts.size(); ++e) {
      if (c.gated) {
        ASSERT_NO_FATAL_FAILURE(expect_near(c.gradients[e].gate, expected.dgate[e], precision()));
      }
      ASSERT_NO_FATAL_FAILURE(expect_near(c.gradients[e].up, expected.dup[e], precision()));
      ASSERT_NO_FATAL_FAILURE(expect_near(c.gradients[e].down, expected.ddown[e], precision()));
    }
  }
}

TEST_P(ExpertProducts, BitsDependOnTheRowAlone) {
  for (const bool gated : {true, false}) {
    Random random(11);
    // One expert takes nearly all, two are empty; then every row alone, on another number of
    // threads.
    const std::vector<int32_t> counts = {0, 260, 3, 0, 1};
    Case c = make_case(random, dtype(), counts, 200, 176, gated, 0.1f);
    const Tensor whole = forward(c, dtype(), false, 1);
    expect_same_bits(forward(c, dtype(), true, 2), whole);
    expect_same_bits(forward(c, dtype(), true, 5), whole);
    for (const int64_t row : {0, 1, 17, 131, 259, 260, 262, 263}) {
      SCOPED_TRACE(::testing::Message() << "row " << row);
      Case one = c;
      const size_t e = expert_of(c, row);
      for (size_t i = 0; i < one.offsets.size(); ++i) one.offsets[i] = i > e ? 1 : 0;
      one.rows = {c.rows[static_cast<size_t>(row)]};
      one.out_rows = {c.out_rows[0]};
      one.keys = {c.keys[static_cast<size_t>(row)]};
      const std::vector<Tensor> out = {make_matrix(c.pairs() + 3, c.hidden, dtype())};
      cpu::run(Experts{.in = {one.x, one.rows},
                       .out = {out, one.out_rows},
                       .offsets = one.offsets,
                       .weights = one.weights,
                       .activation = one.activation,
                       .dropout = one.dropout_of()},
               2);
      const RowRef at = one.out_rows[0];
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(out[0].slice_rows({at.row, at.row + 1}),
                                               whole.slice_rows({row, row + 1})));
    }
  }
}

TEST_P(ExpertProducts, ThreadsDoNotChangeBitsOfGradients) {
  Random random(12);
  const Case c = make_case(random, dtype(), {70, 0, 3, 200}, 100, 120, true, 0.1f);
  forward(c, dtype(), true, 1);
  const std::vector<ExpertMatrices> one = copies_of(c.gradients), two = copies_of(c.gradients);
  const Tensor dx = backward(c, dtype(), one, 1);
  expect_same_bits(backward(c, dtype(), two, 3), dx);
  for (size_t e = 0; e < one.size(); ++e) {
    expect_same_bits(one[e].gate, two[e].gate);
    expect_same_bits(one[e].up, two[e].up);
    expect_same_bits(one[e].down, two[e].down);
  }
}

// Far more rows than one wave holds.
TEST_P(ExpertProducts, ManyRowsOfOneExpert) {
  Random random(13);
  const Case c = make_case(random, dtype(), {2500, 30}, 16, 24, true, 0);
  const Tensor out = forward(c, dtype(), true, 2);
  const Expected expected = expect(c, dtype());
  ASSERT_NO_FATAL_FAILURE(expect_near(out, expected.out, precision()));
  const Tensor dx = backward(c, dtype(), c.gradients, 2);
  ASSERT_NO_FATAL_FAILURE(expect_near(dx, expected.dx, precision()));
  for (size_t e = 0; e < 2; ++e) {
    ASSERT_NO_FATAL_FAILURE(expect_near(c.gradients[e].gate, expected.dgate[e], precision()));
    ASSERT_NO_FATAL_FAILURE(expect_near(c.gradients[e].down, expected.ddown[e], precision()));
  }
}

}  // namespace
}  // namespace tandem::testing
