// Plans from loads and speeds that are known, to hold the balancer's against: for every division of
// the ranks into two groups, heads by speed, experts heaviest first to where they end first.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/plan/shorthand.h"

namespace tandem::test {

// slowness: by rank. expert_tokens: [layer][expert], of a step. expert_seconds: of an expert with
// so many tokens, on a rank of slowness 1. Divisions that leave a rank without experts are left
// out.
inline std::vector<Plan> knowing_plans(const ModelConfig& model,
                                       const std::vector<double>& slowness,
                                       const std::vector<double>& expert_tokens,
                                       const std::function<double(double tokens)>& expert_seconds) {
  const auto ranks = static_cast<int>(slowness.size());
  std::vector<Plan> plans;
  for (int attention = 1; attention < ranks; ++attention) {
    Plan plan =
        make_plan(fmt::format("ma:attention={},experts={}", attention, ranks - attention), model);
    Stage& stage = plan.stages[0];
    std::vector<int>& heads = stage.attention.heads;
    std::ranges::fill(heads, 1);
    for (int64_t left = model.heads - attention; left > 0; --left) {
      int to = 0;
      for (int group = 1; group < attention; ++group)
        if ((heads[group] + 1) * slowness[group] < (heads[to] + 1) * slowness[to]) to = group;
      ++heads[to];
    }
    stage.experts.assign(model.layers, ExpertPlacement(model.experts));
    for (int64_t layer = 0; layer < model.layers; ++layer) {
      std::vector<std::pair<double, int>> order;
      for (int e = 0; e < model.experts; ++e)
        order.emplace_back(expert_tokens[layer * model.experts + e], e);
      std::ranges::sort(order, std::greater{});
      std::vector<double> busy(ranks);
      for (const auto& [tokens, expert] : order) {
        const auto then = [&](int rank) {
          return busy[rank] + slowness[rank] * expert_seconds(tokens);
        };
        int to = attention;
        for (int rank = attention; rank < ranks; ++rank)
          if (then(rank) < then(to)) to = rank;
        busy[to] = then(to);
        stage.experts[layer][expert] = {{{to}}};
      }
    }
    try {
      validate(plan, model);
    } catch (const InputError&) {
      continue;
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace tandem::test
