#include "tandem/trace/metrics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tandem {
namespace {

Span compute(const char* name, Lane lane, double start, double end, Cost cost = {}) {
  return {.name = name, .lane = lane, .start_seconds = start, .end_seconds = end, .cost = cost};
}
Span message(Lane lane, MessageKind kind, double start, double end, double bytes = 0) {
  return {.name = "message",
          .lane = lane,
          .kind = kind,
          .peer = 1,
          .start_seconds = start,
          .end_seconds = end,
          .cost = {0, bytes}};
}

// Ten seconds of an attention rank, an expert rank and a rank of both groups.
std::vector<RankSpans> three_ranks() {
  std::vector<RankSpans> ranks(3);
  ranks[0] = {.rank = 0, .attention = true};
  ranks[0].spans = {compute("qkv", Lane::attention, 0, 2, {100, 10}),
                    compute("scores", Lane::attention, 2, 6, {200, 30}),
                    message(Lane::message, MessageKind::dispatch, 5, 8, 1000),
                    message(Lane::wait, MessageKind::combine, 6, 10)};
  ranks[1] = {.rank = 1, .expert = true};
  ranks[1].spans = {message(Lane::wait, MessageKind::dispatch, 0, 8),
                    compute("experts", Lane::expert, 8, 10, {400, 50})};
  ranks[2] = {.rank = 2, .attention = true, .expert = true};
  ranks[2].spans = {compute("qkv", Lane::attention, 0, 1, {50, 5}),
                    compute("experts", Lane::expert, 1, 4, {600, 60}),
                    message(Lane::message, MessageKind::dispatch, 1, 3, 10),
                    message(Lane::message, MessageKind::dispatch, 2, 5, 20)};
  return ranks;
}

TEST(Metrics, UtilisationOfGroups) {
  const auto ranks = three_ranks();
  const Metrics m = compute_metrics(ranks, {0, 10}, {.flops_per_second = 100});
  EXPECT_EQ(m.attention.ranks, 2);
  EXPECT_DOUBLE_EQ(m.attention.utilisation, (6 + 4) / 20.0);  // rank 2 computes for both groups
  EXPECT_DOUBLE_EQ(m.attention.own_share, (6 + 1) / 20.0);
  EXPECT_DOUBLE_EQ(m.attention.flops_per_second, (300 + 650) / 20.0);
  EXPECT_DOUBLE_EQ(m.attention.bytes_per_second, (40 + 65) / 20.0);
  EXPECT_DOUBLE_EQ(m.attention.flops_share.value(), 0.475);
  EXPECT_FALSE(m.attention.bytes_share.has_value());
  EXPECT_EQ(m.expert.ranks, 2);
  EXPECT_DOUBLE_EQ(m.expert.utilisation, (2 + 4) / 20.0);
  EXPECT_DOUBLE_EQ(m.expert.own_share, (2 + 3) / 20.0);
  EXPECT_EQ(m.compute, (Cost{1350, 155}));
}

TEST(Metrics, WhatIsHiddenBehindCompute) {
  const Metrics m = compute_metrics(three_ranks(), {0, 10});
  EXPECT_DOUBLE_EQ(m.under_way_share, (3 + 4) / 30.0);
  EXPECT_DOUBLE_EQ(m.hidden_share, (1 + 3) / 30.0);
  EXPECT_DOUBLE_EQ(m.overlap_efficiency(), 4 / 7.0);
  EXPECT_DOUBLE_EQ(compute_metrics({}, {0, 10}).overlap_efficiency(), 1);
}

TEST(Metrics, WaitingOverRanks) {
  const auto ranks = three_ranks();
  const Metrics m = compute_metrics(ranks, {0, 10});
  EXPECT_EQ(m.waiting_by_rank, (std::vector<double>{0.4, 0.8, 0.0}));
  EXPECT_DOUBLE_EQ(m.waiting.mean, 0.4);
  EXPECT_DOUBLE_EQ(m.waiting.standard_deviation, std::sqrt(0.32 / 3));
}

TEST(Metrics, CommunicationByKindCountsOverlapOnce) {
  const auto ranks = three_ranks();
  const Metrics m = compute_metrics(ranks, {0, 10});
  ASSERT_EQ(m.communication.size(), 2u);
  const CommunicationUse& dispatch = m.communication[0];
  EXPECT_EQ(dispatch.kind, MessageKind::dispatch);
  EXPECT_EQ(dispatch.messages, 3);
  EXPECT_DOUBLE_EQ(dispatch.bytes, 1030);
  EXPECT_DOUBLE_EQ(dispatch.share, (3 + 8 + 4) / 30.0);
  EXPECT_DOUBLE_EQ(dispatch.waiting_share, 8 / 30.0);
  const CommunicationUse& combine = m.communication[1];
  EXPECT_EQ(combine.kind, MessageKind::combine);
  EXPECT_EQ(combine.messages, 0);
  EXPECT_DOUBLE_EQ(combine.share, 4 / 30.0);
}

TEST(Metrics, OperationsByNameAndDirection) {
  auto ranks = three_ranks();
  ranks[0].spans.push_back(compute("qkv", Lane::attention, 20, 25, {7, 8}));
  ranks[0].spans.back().backward = true;
  const Metrics m = compute_metrics(ranks, {0, 30});
  ASSERT_EQ(m.operations.size(), 4u);
  EXPECT_EQ(m.operations[0].name, "experts");
  EXPECT_EQ(m.operations[0].count, 2);
  EXPECT_DOUBLE_EQ(m.operations[0].seconds, 5);
  EXPECT_EQ(m.operations[0].cost, (Cost{1000, 110}));
  EXPECT_TRUE(m.operations[1].backward);
  EXPECT_DOUBLE_EQ(m.operations[1].seconds, 5);
  EXPECT_EQ(m.operations[2].name, "scores");
  EXPECT_EQ(m.operations[3].name, "qkv");
  EXPECT_EQ(m.operations[3].cost, (Cost{150, 15}));
}

TEST(Metrics, SpansAreCutAtTheWindow) {
  std::vector<RankSpans> ranks{{.rank = 0, .attention = true}};
  ranks[0].spans = {compute("a", Lane::attention, 0, 4, {40, 4}),
                    compute("b", Lane::attention, 4, 8, {80, 8}),
                    compute("outside", Lane::attention, 9, 10, {1, 1}),
                    message(Lane::message, MessageKind::dispatch, 5, 9, 100)};
  const Metrics m = compute_metrics(ranks, {3, 6});
  EXPECT_DOUBLE_EQ(m.attention.utilisation, 1);
  EXPECT_EQ(m.compute, (Cost{10 + 40, 1 + 4}));
  ASSERT_EQ(m.operations.size(), 2u);
  EXPECT_DOUBLE_EQ(m.operations[0].seconds, 2);
  EXPECT_DOUBLE_EQ(m.communication.at(0).bytes, 25);
  EXPECT_DOUBLE_EQ(m.communication.at(0).share, 1.0 / 3);
}

TEST(Metrics, InstantsCountWithoutTakingTime) {
  std::vector<RankSpans> ranks{{.rank = 0, .attention = true}};
  ranks[0].spans = {compute("instant", Lane::attention, 1, 1, {5, 6})};
  const Metrics m = compute_metrics(ranks, {0, 1});
  EXPECT_DOUBLE_EQ(m.attention.utilisation, 0);
  EXPECT_EQ(m.compute, (Cost{5, 6}));
  EXPECT_EQ(m.operations.at(0).count, 1);
}

TEST(Metrics, EmptyInputGivesZeros) {
  const Metrics none = compute_metrics({}, {0, 1});
  EXPECT_EQ(none.attention.ranks, 0);
  EXPECT_DOUBLE_EQ(none.attention.utilisation, 0);
  EXPECT_TRUE(none.operations.empty());
  const auto ranks = three_ranks();
  const Metrics nothing = compute_metrics(ranks, {20, 20});
  EXPECT_DOUBLE_EQ(nothing.attention.utilisation, 0);
  EXPECT_DOUBLE_EQ(nothing.waiting.mean, 0);
  EXPECT_EQ(whole_window({}), (TimeWindow{0, 0}));
  EXPECT_EQ(whole_window(ranks), (TimeWindow{0, 10}));
}

TEST(Metrics, RankTitles) {
  EXPECT_EQ(rank_title({.rank = 3, .attention = true}), "rank 3 (attention)");
  EXPECT_EQ(rank_title({.rank = 4, .expert = true}), "rank 4 (expert)");
  EXPECT_EQ(rank_title({.rank = 0, .attention = true, .expert = true}),
            "rank 0 (attention, expert)");
  EXPECT_EQ(rank_title({.rank = 9}), "rank 9");
}

}  // namespace
}  // namespace tandem
