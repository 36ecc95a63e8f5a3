#include "tandem/comm/collectives.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "comm/ranks.h"

namespace tandem::test {
namespace {

constexpr Tag tag{.kind = MessageKind::attention, .layer = 1, .micro_batch = 0};

// A matrix in host memory: what collectives are held against.
struct Matrix {
  Matrix(int64_t rows_, int64_t cols_) : rows(rows_), cols(cols_), values(rows_ * cols_) {}
  float& at(int64_t r, int64_t c) { return values[r * cols + c]; }
  int64_t rows, cols;
  std::vector<float> values;
};

Matrix random_matrix(int64_t rows, int64_t cols, uint32_t seed) {
  Matrix m(rows, cols);
  std::mt19937 random(seed);
  for (float& v : m.values) v = std::uniform_real_distribution<float>(-1, 1)(random);
  return m;
}

Matrix cut(Matrix m, Interval rows, Interval cols) {
  Matrix out(rows.size(), cols.size());
  for (int64_t r = 0; r < out.rows; ++r)
    for (int64_t c = 0; c < out.cols; ++c) out.at(r, c) = m.at(rows.begin + r, cols.begin + c);
  return out;
}

void expect_bits(const Tensor& actual, const Matrix& expected) {
  ASSERT_EQ(actual.rows, expected.rows);
  ASSERT_EQ(actual.cols, expected.cols);
  if (actual.empty()) return;
  for (int64_t r = 0; r < expected.rows; ++r)
    EXPECT_EQ(0, std::memcmp(actual.row<float>(r), &expected.values[r * expected.cols],
                             4 * expected.cols));
}

// One way to divide rows and columns among ranks, any of which may get none.
struct Division {
  std::vector<Interval> parts, columns;
  int64_t rows() const { return parts.back().end - parts[0].begin; }
  int64_t cols() const { return columns.back().end; }
};

std::vector<Interval> intervals(int count, int64_t first, std::mt19937& random, int most) {
  std::vector<Interval> result;
  for (int i = 0; i < count; ++i) {
    const auto size = static_cast<int64_t>(random() % 3 == 0 ? 0 : random() % (most + 1));
    result.push_back({first, first + size});
    first += size;
  }
  return result;
}

std::vector<Division> divisions(int ranks) {
  std::mt19937 random(17);
  std::vector<Division> result;
  Division none, last_alone;
  none.parts.assign(ranks, {4, 4});
  for (int i = 0; i < ranks; ++i) none.columns.push_back({3 * i, 3 * i + 3});
  last_alone = none;
  last_alone.parts.back().end = 9;
  result = {none, last_alone};
  for (int i = 0; i < 20; ++i) {
    const auto first = static_cast<int64_t>(random() % 3 * 5);  // parts need not start at 0
    result.push_back({intervals(ranks, first, random, 40), intervals(ranks, 0, random, 9)});
  }
  return result;
}

// Ranks that take part need not be ranks 0, 1, ... nor in that order.
std::vector<int> members(int count) {
  std::vector<int> ranks(count);
  for (int i = 0; i < count; ++i) ranks[i] = (i * 3 + 2) % 11;
  return ranks;
}

// `count` members; those of a node, where they lie on several, are not neighbours.
struct Members {
  int count, nodes;
  std::vector<int> ranks() const { return members(count); }
  NodeOrder by_node() const {
    std::vector<int> node_of_rank(11);
    for (int i = 0; i < count; ++i) node_of_rank[members(count)[i]] = i % nodes;
    return members_by_node(members(count), node_of_rank);
  }
  friend void PrintTo(const Members& m, std::ostream* out) {
    *out << m.count << " on " << m.nodes << " nodes";
  }
};

class Collectives : public ::testing::TestWithParam<Members> {
 protected:
  // Every division, one after the other, without anything between them that would keep step.
  void run(const std::function<void(EndpointSeat&, Group, const Division&)>& body) const {
    const int count = GetParam().count;
    const std::vector<int> ranks = GetParam().ranks();
    const NodeOrder order = GetParam().by_node();
    const auto all = divisions(count);
    LocalHub hub(11);
    on_threads(count, [&](int me) {
      EndpointSeat seat(hub, ranks[me]);
      for (const Division& division : all)
        body(seat, {ranks, me, order.members, order.node_size}, division);
    });
  }
};

Task<> keep(Endpoint&, Task<Tensor> task, Tensor& result) { result = co_await std::move(task); }

Tensor result_of(EndpointSeat& seat, Task<Tensor> task) {
  Tensor result;
  seat.run(keep(seat.endpoint, std::move(task), result));
  return result;
}

Tensor uploaded(EndpointSeat& seat, const Matrix& m) {
  return seat.device->upload(m.values, m.rows, m.cols);
}

TEST_P(Collectives, GatherRows) {
  run([](EndpointSeat& seat, Group group, const Division& d) {
    const Matrix whole = random_matrix(d.rows(), 6, 1);
    const Interval mine = d.parts[group.me].shifted(-d.parts[0].begin);
    const Tensor result =
        result_of(seat, gather_rows(seat.endpoint, seat.track(), group, tag, d.parts,
                                    uploaded(seat, cut(whole, mine, {0, 6}))));
    expect_bits(result, whole);
  });
}

// In the order of the group, node by node, whoever comes first: the bits of plain loops.
TEST_P(Collectives, ReduceScatterRows) {
  run([](EndpointSeat& seat, Group group, const Division& d) {
    const auto added = [](Matrix sum, const Matrix& addend) {
      for (size_t v = 0; v < sum.values.size(); ++v) sum.values[v] += addend.values[v];
      return sum;
    };
    const int nodes = GetParam().nodes;
    std::vector<Matrix> of_node;
    for (int i = 0; i < group.size(); ++i) {
      const Matrix addend = random_matrix(d.rows(), 5, 100 + i);
      if (i < nodes)
        of_node.push_back(addend);
      else
        of_node[i % nodes] = added(of_node[i % nodes], addend);
    }
    Matrix sum = of_node[0];
    for (int node = 1; node < nodes; ++node) sum = added(sum, of_node[node]);
    const Interval mine = d.parts[group.me].shifted(-d.parts[0].begin);
    const Tensor result = result_of(
        seat, reduce_scatter_rows(seat.endpoint, seat.track(), group, tag, d.parts,
                                  uploaded(seat, random_matrix(d.rows(), 5, 100 + group.me))));
    expect_bits(result, cut(sum, mine, {0, 5}));
  });
}

TEST_P(Collectives, ColumnsToRowsAndBack) {
  run([](EndpointSeat& seat, Group group, const Division& d) {
    const Matrix whole = random_matrix(d.rows(), d.cols(), 7);
    const Interval rows = d.parts[group.me].shifted(-d.parts[0].begin);
    const Interval all_rows{0, d.rows()}, all_cols{0, d.cols()};
    const Matrix my_columns = cut(whole, all_rows, d.columns[group.me]);
    const Tensor my_rows =
        result_of(seat, columns_to_rows(seat.endpoint, seat.track(), group, tag, d.parts, d.columns,
                                        uploaded(seat, my_columns)));
    expect_bits(my_rows, cut(whole, rows, all_cols));
    const Tensor back = result_of(seat, rows_to_columns(seat.endpoint, seat.track(), group, tag,
                                                        d.parts, d.columns, my_rows));
    expect_bits(back, my_columns);
  });
}

TEST_P(Collectives, MoveNoMoreThanTheyMust) {
  const int count = GetParam().count;
  const std::vector<int> ranks = GetParam().ranks();
  const NodeOrder order = GetParam().by_node();
  LocalHub hub(11);
  std::vector<Interval> parts;
  for (int i = 0; i < count; ++i) parts.push_back({4 * i, 4 * i + 4});
  on_threads(count, [&](int me) {
    EndpointSeat seat(hub, ranks[me]);
    const Group group{ranks, me, order.members, order.node_size};
    const auto bytes = [&] {
      double total = 0;
      for (const Span& span : seat.recorder.spans())
        if (span.lane == Lane::message) total += span.cost.bytes;
      seat.recorder.clear();
      return total;
    };
    const double piece = 4.0 * 8 * 4;             // rows x columns x bytes
    const double received = (count - 1) * piece;  // in two steps no more than in one
    const Tensor whole = result_of(seat, gather_rows(seat.endpoint, seat.track(), group, tag, parts,
                                                     uploaded(seat, random_matrix(4, 8, 1))));
    EXPECT_EQ(bytes(), received);
    (void)result_of(seat,
                    reduce_scatter_rows(seat.endpoint, seat.track(), group, tag, parts, whole));
    EXPECT_EQ(bytes(), received);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, Collectives,
                         ::testing::Values(Members{1, 1}, Members{2, 1}, Members{3, 1},
                                           Members{4, 1}, Members{5, 1}, Members{7, 1},
                                           Members{4, 2}, Members{6, 2}, Members{6, 3},
                                           Members{8, 4}));

TEST(MembersByNode, AreGroupedWhereTwoStepsGainSomething) {
  const std::vector<int> ranks{5, 4, 3, 2, 1, 0};
  const std::vector<int> two{0, 1, 0, 1, 0, 1};  // by rank
  EXPECT_EQ(members_by_node(ranks, two).members, (std::vector<int>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(members_by_node(ranks, two).node_size, 3);
  EXPECT_TRUE(members_by_node(ranks, {}).members.empty());
  EXPECT_TRUE(members_by_node(ranks, std::vector<int>{7, 7, 7, 7, 7, 7}).members.empty());
  EXPECT_TRUE(members_by_node(ranks, std::vector<int>{0, 1, 2, 3, 4, 5}).members.empty());
  EXPECT_TRUE(members_by_node(ranks, std::vector<int>{0, 0, 0, 0, 1, 1}).members.empty());
}

}  // namespace
}  // namespace tandem::test
