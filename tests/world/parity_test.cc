// Against transformers: models of every family and what it makes of them (tests/parity, made by
// scripts/make-parity-models.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/parity_models.h"
#include "tandem/device/cpu/cpu_device.h"
#include "tandem/plan/shorthand.h"
#include "tandem/world/generate.h"

namespace tandem::test {
namespace {

struct Expected {
  explicit Expected(const std::string& model) {
    const auto json = nlohmann::json::parse(std::ifstream(parity_models / model / "expected.json"));
    json.at("tokens").get_to(tokens);
    json.at("positions").get_to(positions);
    json.at("logits").get_to(logits);
    json.at("greedy").get_to(greedy);
  }
  std::vector<int32_t> tokens, greedy;
  std::vector<int64_t> positions;           // of the tokens, ascending
  std::vector<std::vector<double>> logits;  // behind them
};

// Largest difference of the logits; a step ends at each of the positions.
double logit_error(Engine& engine, const Expected& expected) {
  engine.plan_memory(1, std::ssize(expected.tokens));
  double error = 0;
  int64_t done = 0;
  for (size_t i = 0; i < expected.positions.size(); ++i) {
    const int64_t end = expected.positions[i] + 1;
    SequenceTokens work{.first_position = static_cast<int32_t>(done)};
    work.tokens.assign(expected.tokens.begin() + done, expected.tokens.begin() + end);
    const Sampled sampled = engine.infer({&work, 1}, true);
    for (size_t v = 0; v < expected.logits[i].size(); ++v)
      error = std::max(error,
                       std::abs(double{sampled.logits.row<float>(0)[v]} - expected.logits[i][v]));
    done = end;
  }
  return error;
}

class Parity : public ::testing::TestWithParam<std::string> {
 protected:
  ParameterStore load(DType dtype) const {
    return ParameterStore::load(std::make_shared<ModelFiles>(parity_models / GetParam()), dtype,
                                false, *device_);
  }
  std::vector<std::string> plans(const ModelConfig& model) const {
    std::vector<std::string> plans{"single", "ma:attention=2,experts=1", "tp:ranks=2"};
    if (model.experts > 1) plans.push_back("ma:attention=2,experts=3,micro_batches=2");
    return plans;
  }

 private:
  std::unique_ptr<Device> device_ = make_cpu_device(1);
};
INSTANTIATE_TEST_SUITE_P(Models, Parity, ::testing::ValuesIn(parity_model_names()),
                         parity_test_name);

TEST_P(Parity, LogitsAndGreedyTokensInF32) {
  const Expected expected(GetParam());
  ParameterStore store = load(DType::f32);
  for (const std::string& plan : plans(store.config())) {
    SCOPED_TRACE(plan);
    Engine engine(make_plan(plan, store.config()), store, WorldSettings{});
    EXPECT_LT(logit_error(engine, expected), 1e-4);
    std::vector<int32_t> drawn;
    generate(engine, {&expected.tokens, 1},
             {.new_tokens = std::ssize(expected.greedy), .sampling = {.temperature = 0}},
             [&](int32_t, int32_t token, const float*) {
               drawn.push_back(token);
               return true;
             });
    EXPECT_EQ(drawn, expected.greedy);
  }
}

TEST_P(Parity, LogitsInBf16) {
  const Expected expected(GetParam());
  double largest = 0;
  for (const auto& row : expected.logits)
    for (const double logit : row) largest = std::max(largest, std::abs(logit));
  ParameterStore store = load(DType::bf16);
  for (const std::string& plan : plans(store.config())) {
    if (plan.starts_with("tp")) continue;  // rounds its partial sums too
    SCOPED_TRACE(plan);
    Engine engine(make_plan(plan, store.config()), store, WorldSettings{});
    EXPECT_LT(logit_error(engine, expected), 2e-2 * largest);
  }
}

}  // namespace
}  // namespace tandem::test
