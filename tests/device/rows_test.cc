#include <numeric>

#include "device/matrices.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

constexpr DType floats[] = {DType::f32, DType::bf16};

float rounded(float value, DType dtype) {
  return dtype == DType::bf16 ? cpu::to_float(cpu::to_bf16(value)) : value;
}

TEST(CopyRows, PicksAndPutsAndConverts) {
  Random random(1);
  for (const DType from : floats) {
    for (const DType to : floats) {
      for (const int64_t cols : {1, 15, 16, 33, 200}) {
        const std::vector<int32_t> from_rows{4, 0, 2, 2}, to_rows{1, 5, 0, 3};
        const CopyRows op{random_matrix(random, 6, cols, from, 1), zero_matrix(7, cols, to),
                          from_rows, to_rows};
        cpu::run(op, 2);
        for (size_t i = 0; i < 4; ++i) {
          for (int64_t j = 0; j < cols; ++j) {
            EXPECT_EQ(element(op.to, to_rows[i], j),
                      rounded(element(op.from, from_rows[i], j), to));
          }
        }
        for (int64_t j = 0; j < cols; ++j) EXPECT_EQ(element(op.to, 2, j), 0);
        EXPECT_EQ(op.cost().bytes, static_cast<double>(4 * cols * (size_of(from) + size_of(to))));
      }
    }
  }
}

TEST(CopyRows, RoundsToNearestEven) {
  const float values[] = {1.00390625f, 1.01171875f, -1.00390625f, 3.4e38f, INFINITY, -INFINITY,
                          -0.0f,       1e-45f,      65280.0f,     1.0f,    0.1f};
  const int64_t n = std::size(values);
  const CopyRows op{make_matrix(1, n, DType::f32), make_matrix(1, n, DType::bf16)};
  for (int64_t j = 0; j < n; ++j) set_element(op.from, 0, j, values[j]);
  cpu::run(op, 1);
  EXPECT_EQ(element(op.to, 0, 0), 1.0f);       // a tie: to even
  EXPECT_EQ(element(op.to, 0, 1), 1.015625f);  // a tie: to even
  EXPECT_EQ(element(op.to, 0, 2), -1.0f);
  EXPECT_EQ(element(op.to, 0, 3), INFINITY);  // beyond the largest
  for (int64_t j = 0; j < n; ++j) {
    EXPECT_EQ(op.to.row<bfloat16>(0)[j].bits, cpu::to_bf16(values[j]).bits) << j;
  }
  set_element(op.from, 0, 0, NAN);
  cpu::run(op, 1);
  EXPECT_TRUE(std::isnan(element(op.to, 0, 0)));
}

TEST(CopyRows, IntegersAndItself) {
  const CopyRows op{make_matrix(3, 2, DType::i32), make_matrix(3, 2, DType::i32)};
  for (int32_t i = 0; i < 6; ++i) op.from.row<int32_t>(i / 2)[i % 2] = i - 3;
  cpu::run(op, 1);
  for (int32_t i = 0; i < 6; ++i) EXPECT_EQ(op.to.row<int32_t>(i / 2)[i % 2], i - 3);
  cpu::run(CopyRows{op.to, op.to}, 1);
  EXPECT_EQ(op.to.row<int32_t>(2)[1], 2);
  cpu::run(CopyRows{op.from.slice_rows({0, 0}), op.to.slice_rows({0, 0})}, 1);
}

TEST(AddRows, AddsRepeatedRowsInOrder) {
  Random random(2);
  for (const DType dtype : floats) {
    const int64_t cols = 1037;
    const std::vector<int32_t> from_rows{0, 1, 2, 3, 4}, to_rows{1, 1, 0, 1, 0};
    const AddRows op{random_matrix(random, 5, cols, dtype, 1),
                     random_matrix(random, 2, cols, DType::f32), from_rows, to_rows};
    const Tensor expected = copy_of(op.to);
    for (size_t i = 0; i < 5; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        expected.row<float>(to_rows[i])[j] += element(op.from, from_rows[i], j);
      }
    }
    cpu::run(op, 3);
    expect_same_bits(op.to, expected);
  }
}

TEST(Sum, AddsInOrderIntoItsFirstInput) {
  Random random(3);
  for (const DType dtype : floats) {
    const std::vector<Tensor> inputs{random_matrix(random, 9, 2100, dtype),
                                     random_matrix(random, 9, 2100, DType::f32, 3),
                                     random_matrix(random, 9, 2100, DType::bf16)};
    const Tensor expected = make_matrix(9, 2100, dtype);
    for (int64_t i = 0; i < 9; ++i) {
      for (int64_t j = 0; j < 2100; ++j) {
        set_element(expected, i, j,
                    element(inputs[0], i, j) + element(inputs[1], i, j) + element(inputs[2], i, j));
      }
    }
    cpu::run(Sum{inputs, inputs[0]}, 2);
    expect_same_bits(inputs[0], expected);
  }
}

Dropout hidden_dropout(std::span<const uint64_t> keys, int64_t first_feature) {
  return {0.3f, 11, RandomStream::hidden_dropout, 4, 2, keys, first_feature};
}

float mask_of(const Dropout& dropout, size_t row, int64_t col) {
  const uint64_t feature = static_cast<uint64_t>(dropout.first_feature + col);
  const bool kept = dropout.source().uniform(dropout.keys[row], feature) >= dropout.probability;
  return kept ? 1 / (1 - dropout.probability) : 0;
}

TEST(Residual, MasksForwardAndBackwardAlike) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const DType dtype = floats[seed % 2];
    const int64_t rows = draw(random, 1, 5), cols = draw(random, 1, 300);
    std::vector<uint64_t> keys(static_cast<size_t>(rows));
    for (uint64_t& key : keys) key = random();
    Dropout dropout = hidden_dropout(keys, draw(random, 0, 9));
    if (seed % 3 == 0) dropout = {};
    const AddResidual forward{random_matrix(random, rows, cols, dtype),
                              random_matrix(random, rows, cols, DType::f32, 2), dropout};
    const Tensor before = copy_of(forward.residual);
    const ResidualBackward backward{random_matrix(random, rows, cols, DType::f32),
                                    make_matrix(rows, cols, dtype), dropout};
    cpu::run(forward, 2);
    cpu::run(backward, 2);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        const float mask = dropout.active() ? mask_of(dropout, static_cast<size_t>(i), j) : 1;
        const float added = element(forward.y, i, j) * mask;
        const float rest = element(before, i, j);
        ASSERT_NEAR(element(forward.residual, i, j), rest + added,
                    2e-7f * (std::abs(rest) + std::abs(added)));
        ASSERT_EQ(element(backward.dy, i, j),
                  rounded(element(backward.dresidual, i, j) * mask, dtype));
      }
    }
  }
}

TEST(Zero, LeavesWhatLiesBetweenRows) {
  Random random(4);
  for (const DType dtype : floats) {
    const Tensor t = random_matrix(random, 5, 12, dtype);
    const Tensor before = copy_of(t);
    cpu::run(Zero{t.slice_cols({3, 9})}, 2);
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t j = 0; j < 12; ++j) {
        EXPECT_EQ(element(t, i, j), j >= 3 && j < 9 ? 0 : element(before, i, j));
      }
    }
    cpu::run(Zero{t}, 1);
    EXPECT_EQ(element(t, 4, 11), 0);
  }
}

TEST(FillNormal, SlicesGetTheNumbersOfTheWhole) {
  for (const DType dtype : floats) {
    const Tensor whole = make_matrix(20, 1500, dtype);
    cpu::run(FillNormal{whole, 0.5f, 3, 8, 0, 0, 1500}, 2);
    for (const auto& [rows, cols] :
         {std::pair{Interval{3, 9}, Interval{5, 1498}}, {Interval{19, 20}, Interval{7, 8}}}) {
      const Tensor part = make_matrix(rows.size(), cols.size(), dtype);
      cpu::run(FillNormal{part, 0.5f, 3, 8, rows.begin, cols.begin, 1500}, 1);
      expect_same_bits(part, whole.slice_rows(rows).slice_cols(cols));
    }
  }
}

TEST(FillNormal, IsNormal) {
  const Tensor t = make_matrix(100, 1000, DType::f32);
  cpu::run(FillNormal{t, 2, 1, 1, 0, 0, 1000}, 2);
  double moments[5] = {};
  for (int64_t i = 0; i < 100; ++i) {
    for (int64_t j = 0; j < 1000; ++j) {
      const double x = static_cast<double>(element(t, i, j)) / 2;
      for (int k = 0; k < 5; ++k) moments[k] += std::pow(x, k) / 1e5;
    }
  }
  EXPECT_NEAR(moments[1], 0, 0.02);
  EXPECT_NEAR(moments[2], 1, 0.02);
  EXPECT_NEAR(moments[3], 0, 0.05);
  EXPECT_NEAR(moments[4], 3, 0.1);
}

// Number n of a stream is made of block n / 4, whose words are two uniform pairs (Box and Muller).
TEST(FillNormal, FollowsTheDocumentedNumbers) {
  const Tensor t = make_matrix(1, 4000, DType::f32);
  cpu::run(FillNormal{t, 1, 21, 5, 0, 0, 4000}, 1);
  const RandomSource source(21, RandomStream::initial_weights);
  for (uint64_t n = 0; n < 4000; ++n) {
    const auto block = source.block(5, n / 4);
    const double u = 1 - static_cast<double>(unit_float(block[n % 4 / 2 * 2]));
    const double angle = 2 * M_PI * static_cast<double>(unit_float(block[n % 4 / 2 * 2 + 1]));
    const double expected =
        std::sqrt(-2 * std::log(u)) * (n % 2 ? std::sin(angle) : std::cos(angle));
    ASSERT_NEAR(static_cast<double>(element(t, 0, static_cast<int64_t>(n))), expected, 4e-6) << n;
  }
}

// Neighbours turn as columns of two halves do.
TEST(Rotate, TurnsNeighboursAsHalves) {
  constexpr int64_t rows = 3, heads = 2, head_dim = 16, rotated = 10, half = rotated / 2;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Random random(6);
    const Tensor rotation = random_matrix(random, 7, rotated, DType::f32);
    const std::vector<int32_t> positions{4, 0, 6};
    const Tensor neighbours = random_matrix(random, rows, heads * head_dim, dtype);
    const Tensor halves = make_matrix(rows, heads * head_dim, dtype);
    // Where column i of neighbours stands among halves.
    const auto place = [](int64_t i) {
      const int64_t in_head = i % head_dim - (head_dim - rotated);
      return in_head < 0 ? i : i - in_head + in_head / 2 + in_head % 2 * half;
    };
    const auto each = [&](const auto& body) {
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < heads * head_dim; ++i) body(row, i);
    };
    each([&](int64_t row, int64_t i) {
      set_element(halves, row, place(i), element(neighbours, row, i));
    });
    for (const bool backward : {false, true}) {
      cpu::run(Rotate{halves, rotation, positions, head_dim, false, backward}, 1);
      cpu::run(Rotate{neighbours, rotation, positions, head_dim, true, backward}, 2);
      each([&](int64_t row, int64_t i) {
        ASSERT_EQ(element(neighbours, row, i), element(halves, row, place(i)));
      });
    }
  }
}

TEST(Rotate, TurnsPairsAndBack) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    const DType dtype = floats[seed % 2];
    const int64_t d = 2 * draw(random, 1, 40), heads = draw(random, 1, 3), half = d / 2;
    const Tensor rotation = make_matrix(10, d, DType::f32);
    for (int64_t p = 0; p < 10; ++p) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10, -static_cast<double>(i) / 8);
        set_element(rotation, p, i, static_cast<float>(std::cos(angle)));
        set_element(rotation, p, half + i, static_cast<float>(std::sin(angle)));
      }
    }
    const std::vector<int32_t> positions{7, 0, 9};
    const int64_t before_d = draw(random, 0, 5), head_dim = before_d + d;  // columns left alone
    const Tensor x = random_matrix(random, 3, heads * head_dim, dtype, 3), before = copy_of(x);
    cpu::run(Rotate{x, rotation, positions, head_dim, false}, 2);
    const double limit = dtype == DType::bf16 ? 0.02 : 1e-6;
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < heads * head_dim; ++j) {
        const int64_t p = positions[static_cast<size_t>(i)], at = j % head_dim - before_d;
        const double actual = element(x, i, j), old = element(before, i, j);
        if (at < 0) {
          ASSERT_EQ(actual, old);
          continue;
        }
        const bool lower = at < half;
        const double other = element(before, i, lower ? j + half : j - half);
        const double cosine = element(rotation, p, at % half);
        const double sine = element(rotation, p, half + at % half);
        ASSERT_NEAR(actual, old * cosine + (lower ? -other : other) * sine, limit);
      }
    }
    cpu::run(Rotate{x, rotation, positions, head_dim, false, true}, 1);
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = 0; j < heads * head_dim; ++j) {
        ASSERT_NEAR(static_cast<double>(element(x, i, j)),
                    static_cast<double>(element(before, i, j)), 2 * limit);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::testing
