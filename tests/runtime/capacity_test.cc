// What an expert's capacity drops follows from the positions in a sequence, however rows are
// divided among ranks and however the sequence is cut into pieces.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "comm/transport_conformance.h"
#include "tandem/comm/local/local_transport.h"
#include "tandem/plan/shorthand.h"
#include "tandem/runtime/optimizer.h"
#include "tandem/runtime/steps.h"

namespace tandem::test {
namespace {

ModelConfig model_with_capacity(int64_t capacity, double factor) {
  ModelConfig c;
  c.vocab_size = 50;
  c.hidden_size = 16;
  c.layers = 2;
  c.heads = c.kv_heads = 6;
  c.head_dim = 4;
  c.max_positions = 64;
  c.experts = 5;
  c.top_k = 2;
  c.expert_hidden = 8;
  c.expert_capacity = capacity;
  c.capacity_factor = factor;
  return c;
}

// Two experts for each position of each sequence.
using Routing = std::vector<std::vector<int32_t>>;  // [sequence][position * 2 + slot]

Routing random_routing(const std::vector<int>& lengths, const ModelConfig& model) {
  std::mt19937 random(4);
  Routing routing;
  for (const int length : lengths) {
    auto& experts = routing.emplace_back();
    for (int i = 0; i < length; ++i) {
      const auto first = static_cast<int32_t>(random() % model.experts);
      experts.push_back(first);
      experts.push_back(
          static_cast<int32_t>((first + 1 + random() % (model.experts - 1)) % model.experts));
    }
  }
  return routing;
}

Routing expected_of(Routing routing, const ModelConfig& model) {
  for (auto& experts : routing) {
    const double share = model.capacity_factor * static_cast<double>(experts.size()) /
                         static_cast<double>(model.experts);
    const auto capacity =
        model.expert_capacity > 0 ? model.expert_capacity : static_cast<int64_t>(std::ceil(share));
    std::vector<int64_t> used(model.experts);
    for (int32_t& e : experts)
      if (++used[e] > capacity) e = -1;
  }
  return routing;
}

// What every rank of the plan serves of its own rows, put together.
class Served {
 public:
  Served(const std::string& plan, const ModelConfig& model, Routing routing, bool cached)
      : plan_(make_plan(plan, model)),
        routing_(std::move(routing)),
        cached_(cached),
        store_(ParameterStore::random(model, 1, DType::f32, *make_cpu_device(1))),
        hub_(plan_.ranks()) {
    for (const auto& experts : routing_) served_.emplace_back(experts.size(), -7);
  }

  // Positions [i * length, (i + 1) * length) of all sequences, for i = 0, 1, ...
  const Routing& in_pieces_of(int64_t length) {
    on_threads(plan_.ranks(), [&](int number) {
      if (!role_of(plan_, number).attention) return;
      const auto device = make_cpu_device(1);
      const auto transport = hub_.connect(number);
      Recorder recorder(number);
      Rank rank(std::make_shared<const Plan>(plan_), number, store_, *device, *transport, recorder,
                {});
      rank.cached = cached_;
      size_t longest = 0;
      for (const auto& experts : routing_) longest = std::max(longest, experts.size() / 2);
      rank.plan_cache(std::ssize(routing_), static_cast<int64_t>(longest));
      for (int64_t begin = 0; begin < static_cast<int64_t>(longest); begin += length)
        serve(rank, {begin, begin + length});
    });
    return served_;
  }

 private:
  void serve(Rank& rank, const Interval& positions) {
    rank.command = {};
    const std::vector<int32_t> ones(positions.size(), 1);  // tokens, which a command has views of
    for (size_t s = 0; s < routing_.size(); ++s) {
      const Interval here = overlap(positions, {0, static_cast<int64_t>(routing_[s].size()) / 2});
      if (here.empty()) continue;
      rank.command.sequences.push_back({.slot = static_cast<int32_t>(s),
                                        .first_position = static_cast<int32_t>(here.begin),
                                        .tokens = std::span(ones).first(here.size())});
    }
    Pass pass;
    pass.batch.build(rank.command, plan_, 0, 0, 0);
    pass.rows.build(rank.stage(), rank.role.place, pass.batch.shard_rows(rank.stage(), 0));
    std::vector<int32_t> own;
    for_rows(pass, pass.rows.owned, [&](size_t s, int64_t at) { own.push_back(routing_[s][at]); });
    LayerActivations a;
    a.experts = a.served = rank.device.upload(own, pass.rows.owned.size(), 2);
    Track on(rank.device, rank.recorder, Lane::attention, 0);
    on.layer = 1;
    Task<> task = count_routing(rank, pass, on, a);
    rank.endpoint.run({&task, 1});
    if (pass.rows.mine.empty()) return;
    const auto values = rank.device.integers(a.served);
    size_t i = 2 * (pass.rows.mine.begin - pass.rows.owned.begin);
    for_rows(pass, pass.rows.mine, [&](size_t s, int64_t at) { served_[s][at] = values[i++]; });
  }

  // body(sequence, index in its routing) for both experts of some rows.
  template <class Body>
  static void for_rows(const Pass& pass, const Interval& rows, const Body& body) {
    for (const BatchSequence& sequence : pass.batch.sequences)
      for (int64_t row = sequence.rows.begin; row < sequence.rows.end; ++row)
        for (int64_t slot = 0; rows.contains(row) && slot < 2; ++slot)
          body(sequence.slot, 2 * (sequence.first_position + row - sequence.rows.begin) + slot);
  }

  Plan plan_;
  Routing routing_, served_;
  bool cached_;
  ParameterStore store_;
  LocalHub hub_;
};

const std::vector<std::string> plans_with_capacity = {
    "single", "tp:ranks=3", "ma:attention=3,experts=2", "ma:attention=4,experts=1,sequence=2",
    "ma:attention=6,experts=1,sequence=3,exchange=sums"};

TEST(Capacity, DropsByPositionUnderEveryPlan) {
  for (const ModelConfig& model : {model_with_capacity(4, 0), model_with_capacity(0, 0.7)}) {
    const Routing routing = random_routing({23, 1, 9, 40}, model);
    const Routing expected = expected_of(routing, model);
    EXPECT_NE(expected, routing);  // something is dropped
    for (const std::string& plan : plans_with_capacity)
      EXPECT_EQ(Served(plan, model, routing, false).in_pieces_of(64), expected) << plan;
  }
}

TEST(Capacity, OfACachedSequenceCountsItsEarlierPieces) {
  const ModelConfig model = model_with_capacity(4, 0);
  const Routing routing = random_routing({23, 1, 9, 40}, model);
  for (const std::string& plan : plans_with_capacity)
    for (const int64_t length : {1, 5, 64})
      EXPECT_EQ(Served(plan, model, routing, true).in_pieces_of(length),
                expected_of(routing, model))
          << plan << " in pieces of " << length;
}

TEST(Capacity, AFactorDoesNotBindPieces) {
  const ModelConfig model = model_with_capacity(0, 0.7);
  const Routing routing = random_routing({23, 9}, model);
  EXPECT_EQ(Served("ma:attention=3,experts=2", model, routing, true).in_pieces_of(5), routing);
}

}  // namespace
}  // namespace tandem::test
