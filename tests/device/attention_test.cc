#include <thread>

#include "device/attention_reference.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::testing {
namespace {

bool same_bits(const Tensor& a, int64_t row, const Tensor& b, int64_t other, Interval cols,
               int64_t other_col) {
  const int64_t size = size_of(a.dtype);
  return std::memcmp(a.row_bytes(row) + cols.begin * size, b.row_bytes(other) + other_col * size,
                     static_cast<size_t>(cols.size() * size)) == 0;
}

double tolerance(DType dtype) { return dtype == DType::bf16 ? 6e-3 : 2e-6; }

void expect_reference(Random& random, const AttentionSizes& sizes) {
  const AttentionCase c(random, sizes);
  cpu::run(c.operation(), 2);
  EXPECT_LT(relative_error(c.out, reference_attention(c)), tolerance(sizes.dtype));
  for_rows(c, [&](const AttentionSequence& s, int64_t i, int64_t h) {
    const double expected = reference_row(c, s, i, h).logsumexp;
    const float found = c.logsumexp.row<float>(s.query_rows.begin + i)[h];
    EXPECT_NEAR(static_cast<double>(found), expected, 2e-5 * (1 + std::abs(expected)));
  });
}

class Attentions : public EveryWay {};
INSTANTIATE_TEST_SUITE_P(All, Attentions, ::testing::ValuesIn(ways),
                         [](const auto& way) { return way.param.name; });

TEST_P(Attentions, AgreeWithReference) {
  for (uint64_t seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    AttentionSizes sizes;
    sizes.dtype = dtype();
    sizes.head_dim = std::vector<int64_t>{2, 6, 16, 20, 34, 64, 72, 128}[seed % 8];
    if (seed >= 16) sizes.value_dim = std::vector<int64_t>{34, 2, 20, 72, 1, 16, 48, 64}[seed % 8];
    sizes.padding = draw(random, 0, 5);
    sizes.dropout = seed % 3 == 2 ? 0.25f : 0;
    const int64_t group = draw(random, 1, 4), kv_heads = draw(random, 1, 3);
    sizes.kv_head.clear();
    for (int64_t h = 0; h < group * kv_heads; ++h) {
      sizes.kv_head.push_back(static_cast<int32_t>(h / group));
    }
    for (int64_t s = draw(random, 1, 4); s > 0; --s) {
      const int64_t first = draw(random, 0, 150);
      sizes.positions.push_back({first, first + draw(random, 1, seed % 4 == 0 ? 150 : 20)});
    }
    expect_reference(random, sizes);
  }
}

TEST_P(Attentions, ShareKeysUnevenly) {
  Random random(1);
  expect_reference(
      random, {.dtype = dtype(), .kv_head = {0, 0, 1, 1, 2}, .positions = {{0, 70}, {63, 64}}});
}

// Sums that begin anew are joined, by one thread or several.
TEST_P(Attentions, ReachFarBack) {
  Random random(3);
  expect_reference(random, {.dtype = dtype(),
                            .head_dim = 32,
                            .value_dim = 48,
                            .kv_head = {0, 0},
                            .positions = {{1020, 1030}, {2500, 2501}, {0, 3}}});
}

// Scores far apart: the largest so far grows from block to block.
TEST_P(Attentions, FollowLargeScores) {
  Random random(4);
  const AttentionCase c(random, {.dtype = dtype(), .kv_head = {0}, .positions = {{0, 300}}});
  for (const AttentionSequence& s : c.sequences)
    for (int64_t j = 0; j < s.key_count(); ++j)
      for (int64_t i = 0; i < c.keys.cols; ++i) {
        const int64_t row = c.key_row(s, j);
        set_element(c.keys, row, i, element(c.keys, row, i) * static_cast<float>(j % 97));
      }
  cpu::run(c.operation(), 1);
  EXPECT_LT(relative_error(c.out, reference_attention(c)), 4 * tolerance(dtype()));
}

// Latent attention: one head of keys for all queries, values are part of the keys' rows.
TEST_P(Attentions, ReadValuesAsColumnsOfKeys) {
  Random random(2);
  AttentionSizes sizes{.dtype = dtype(),
                       .head_dim = 24,
                       .value_dim = 16,
                       .kv_head = {0, 0, 0},
                       .positions = {{0, 70}, {100, 103}, {190, 191}},
                       .padding = 3,
                       .latent = true};
  expect_reference(random, sizes);
  sizes.head_dim = 576;
  sizes.value_dim = 512;
  sizes.kv_head.assign(16, 0);
  sizes.positions = {{0, 20}, {130, 131}};
  expect_reference(random, sizes);
}

// One row at a time, some rows, some heads, other sequences beside it, more threads: the same bits.
struct BitsCase {
  Way way;
  int64_t head_dim, value_dim;
  float dropout;
  std::vector<int32_t> kv_head{0, 0, 0, 1, 1, 1};
};

class AttentionBits : public ::testing::TestWithParam<BitsCase> {
 protected:
  void SetUp() override {
    const Way& way = GetParam().way;
    if (!cpu::bf16_path_supported(way.path)) GTEST_SKIP() << "not on this processor";
    if (way.dtype == DType::bf16) cpu::set_bf16_path(way.path);
  }
  void TearDown() override { cpu::set_bf16_path(std::nullopt); }
  AttentionSizes sizes() const {
    const BitsCase& c = GetParam();
    return {.dtype = c.way.dtype,
            .head_dim = c.head_dim,
            .value_dim = c.value_dim,
            .kv_head = c.kv_head,
            .positions = {{0, 201}, {3, 9}, {0, 300}, {1000, 1050}, {2110, 2112}},
            .dropout = c.dropout};
  }
};

// The keys and values of the first `count` positions of a sequence, in rows of their own; what lies
// behind them cannot be read.
Tensor first_rows(const AttentionCase& c, const Tensor& t, const AttentionSequence& s,
                  int64_t count) {
  const Tensor copy = make_matrix(count, t.cols, t.dtype);
  for (int64_t j = 0; j < count; ++j) {
    std::memcpy(copy.row_bytes(j), t.row_bytes(c.key_row(s, j)),
                static_cast<size_t>(t.cols * size_of(t.dtype)));
  }
  return copy;
}

TEST_P(AttentionBits, DoNotTellRowsOfACall) {
  Random random(5);
  const AttentionCase c(random, sizes());
  cpu::run(c.operation(), 1);
  for (size_t number = 0; number < c.sequences.size(); ++number) {
    const AttentionSequence& s = c.sequences[number];
    for (int64_t begin = 0; begin < s.query_rows.size();) {
      const int64_t end =
          std::min(s.query_rows.size(), begin + (draw(random, 0, 2) ? 1 : draw(random, 2, 40)));
      const Interval rows{s.query_rows.begin + begin, s.query_rows.begin + end};
      std::vector<int32_t> blocks;
      for (int64_t j = 0; j < s.first_position + end; j += kv_block_tokens) {
        blocks.push_back(static_cast<int32_t>(j));
      }
      const AttentionSequence part{{0, rows.size()}, s.first_position + begin, blocks};
      Attention op = c.operation();
      op.q = c.q.slice_rows(rows);
      op.keys = first_rows(c, c.keys, s, part.key_count());
      op.values = first_rows(c, c.values, s, part.key_count());
      op.out = make_matrix(rows.size(), c.out.cols, c.out.dtype);
      op.logsumexp = make_matrix(rows.size(), c.logsumexp.cols, DType::f32);
      op.sequences = {&part, 1};
      op.dropout.keys = op.dropout.keys.subspan(static_cast<size_t>(rows.begin),
                                                static_cast<size_t>(rows.size()));
      cpu::run(op, 1);
      for (int64_t i = 0; i < rows.size(); ++i) {
        const int64_t whole = rows.begin + i;
        ASSERT_TRUE(same_bits(c.out, whole, op.out, i, {0, c.out.cols}, 0)) << whole;
        ASSERT_TRUE(same_bits(c.logsumexp, whole, op.logsumexp, i, {0, c.logsumexp.cols}, 0));
      }
      begin = end;
    }
  }
}

TEST_P(AttentionBits, DoNotTellHeads) {
  Random random(6);
  const AttentionCase c(random, sizes());
  cpu::run(c.operation(), 1);
  const int64_t d = c.sizes.head_dim, value_d = c.sizes.value_dim;
  for (const Interval heads : {Interval{0, 1}, Interval{1, 3}, Interval{2, 4}, Interval{3, 4}}) {
    Attention op = c.operation();
    const Interval cols{heads.begin * value_d, heads.end * value_d};
    op.q = c.q.slice_cols({heads.begin * d, heads.end * d});
    op.out = make_matrix(c.out.rows, cols.size(), c.out.dtype);
    op.logsumexp = {};
    op.heads.kv_head = op.heads.kv_head.subspan(static_cast<size_t>(heads.begin),
                                                static_cast<size_t>(heads.size()));
    op.heads.first_head += heads.begin;
    cpu::run(op, 1);
    for (int64_t i = 0; i < c.out.rows; ++i) ASSERT_TRUE(same_bits(c.out, i, op.out, i, cols, 0));
  }
}

TEST_P(AttentionBits, DoNotTellThreads) {
  Random random(7);
  const AttentionCase c(random, sizes());
  cpu::run(c.operation(), 1);
  for (const int threads : {2, 3, 7}) {
    Attention op = c.operation();
    op.out = make_matrix(c.out.rows, c.out.cols, c.out.dtype);
    cpu::run(op, threads);
    for (int64_t i = 0; i < c.out.rows; ++i) {
      ASSERT_TRUE(same_bits(c.out, i, op.out, i, {0, c.out.cols}, 0));
    }
  }
}

std::vector<BitsCase> bits_cases() {
  std::vector<BitsCase> cases;
  for (const Way& way : ways) {
    cases.push_back({way, 64, 64, 0.0f});
    cases.push_back({way, 36, 36, 0.1f});
    cases.push_back({way, 24, 34, 0.0f, {0, 1, 1, 2}});
  }
  cases.push_back({ways[1], 128, 128, 0.0f});
  cases.push_back({ways[1], 96, 80, 0.1f, std::vector<int32_t>(20, 0)});
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Sizes, AttentionBits, ::testing::ValuesIn(bits_cases()));

// Known numbers: two queries at positions 64 and 65 of one sequence, two heads of 16 that share
// keys.
TEST(Attention, CostsWhatShapesSay) {
  Random random(1);
  const AttentionCase c(random, {.kv_head = {0, 0}, .positions = {{64, 66}}});
  const Cost cost = c.operation().cost();
  EXPECT_EQ(cost.flops, 4 * 16 * 2 * (65 + 66));
  EXPECT_EQ(cost.bytes, 4 * (2 * 2 * 32 + 2 * 2 + 2 * 66 * 16));  // q, out; logsumexp; keys, values
}

TEST(Attention, CostsWhatValuesAreWide) {
  Random random(1);
  const AttentionCase c(random, {.value_dim = 8, .kv_head = {0, 0}, .positions = {{64, 66}}});
  const Cost cost = c.operation().cost();
  EXPECT_EQ(cost.flops, 2 * (16 + 8) * 2 * (65 + 66));
  EXPECT_EQ(cost.bytes, 4 * (2 * 32 + 2 * 16 + 2 * 2 + 66 * (16 + 8)));
}

struct Gradients {
  explicit Gradients(Random& random, const AttentionCase& c)
      : dout(random_matrix(random, c.out.rows, c.out.cols, c.out.dtype)),
        dq(make_matrix(c.q.rows, c.q.cols, c.q.dtype)),
        dkeys(zero_matrix(c.keys.rows, c.keys.cols, DType::f32)),
        dvalues(zero_matrix(c.values.rows, c.values.cols, DType::f32)) {}
  AttentionBackward operation(const AttentionCase& c) const {
    return {c.q, c.keys, c.values, c.out,       c.logsumexp,  dout,
            dq,  dkeys,  dvalues,  c.sequences, c.head_set(), c.dropout()};
  }
  Tensor dout, dq, dkeys, dvalues;
};

TEST_P(Attentions, HaveReferenceGradients) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    AttentionSizes sizes;
    sizes.dtype = dtype();
    sizes.head_dim = std::vector<int64_t>{2, 16, 20, 36, 64, 128}[seed % 6];
    if (seed >= 10) sizes.value_dim = std::vector<int64_t>{34, 2, 72, 16, 48, 1}[seed % 6];
    sizes.latent = sizes.value_dim != 0 && sizes.value_dim <= sizes.head_dim && seed % 3 != 0;
    sizes.dropout = seed % 4 >= 2 ? 0.25f : 0;
    if (seed % 3 == 0) sizes.kv_head = {0, 0, 0, 1, 1};
    if (seed % 3 != 0) sizes.kv_head = {0, sizes.latent ? 0 : 1};
    for (int64_t s = draw(random, 1, 3); s > 0; --s) {
      const int64_t first = draw(random, 0, 100);
      sizes.positions.push_back({first, first + draw(random, 1, 150)});
    }
    const AttentionCase c(random, sizes, true);
    cpu::run(c.operation(), 1);
    const Gradients g(random, c);
    cpu::run(g.operation(c), 2);
    const ReferenceGradients expected = reference_gradients(c, g.dout);
    const double limit = sizes.dtype == DType::bf16 ? 2e-2 : 1e-5;
    EXPECT_LT(relative_error(g.dq, expected.dq), limit);
    EXPECT_LT(relative_error(g.dkeys, expected.dkeys), limit);
    EXPECT_LT(relative_error(g.dvalues, expected.dvalues), limit);
  }
}

TEST_P(Attentions, HaveGradientsWithoutTraceOfThreads) {
  Random random(3);
  const AttentionCase c(random,
                        {.dtype = dtype(),
                         .head_dim = 32,
                         .kv_head = {0, 0, 1, 2},
                         .positions = {{0, 130}, {20, 90}}},
                        true);
  cpu::run(c.operation(), 1);
  const Gradients one(random, c);
  Gradients more(random, c);
  more.dout = one.dout;
  cpu::run(one.operation(c), 1);
  cpu::run(more.operation(c), 5);
  EXPECT_EQ(0, std::memcmp(one.dq.data, more.dq.data, static_cast<size_t>(one.dq.bytes())));
  EXPECT_EQ(0,
            std::memcmp(one.dkeys.data, more.dkeys.data, static_cast<size_t>(one.dkeys.bytes())));
  EXPECT_EQ(0, std::memcmp(one.dvalues.data, more.dvalues.data,
                           static_cast<size_t>(one.dvalues.bytes())));
}

// Few rows leave lanes over; what a thread's memory held there before must not reach any sum.
TEST_P(Attentions, HaveGradientsOfFewRowsInFreshMemory) {
  Random random(5);
  const AttentionCase c(
      random, {.dtype = dtype(), .kv_head = {0, 0}, .positions = {{3, 8}}, .dropout = 0.25f}, true);
  cpu::run(c.operation(), 1);
  const Gradients g(random, c);
  std::thread([&] { cpu::run(g.operation(c), 1); }).join();
  const ReferenceGradients expected = reference_gradients(c, g.dout);
  EXPECT_LT(relative_error(g.dvalues, expected.dvalues), 2e-2);
  EXPECT_LT(relative_error(g.dkeys, expected.dkeys), 2e-2);
}

}  // namespace
}  // namespace tandem::testing
