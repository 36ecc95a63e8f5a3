#include "tandem/cli/bench_kernels.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

namespace tandem::cli {
namespace {

Tensor random_tensor(Device& device, int64_t rows, int64_t cols, DType dtype) {
  Tensor t = device.allocate(rows, cols, dtype);
  device.execute(FillNormal{.x = t, .deviation = 0.5f, .full_cols = cols});
  return t;
}

// A few rows are slow because weights come from memory: take turns with more than a cache holds.
constexpr int64_t cold_bytes = int64_t{5} << 28;

void linear(Bench& bench, Device& device, DType dtype, int64_t rows, int64_t width, bool cold) {
  std::vector<Tensor> weights;
  for (int64_t bytes = 0; weights.empty() || (cold && bytes < cold_bytes);
       bytes += weights.back().bytes())
    weights.push_back(random_tensor(device, width, width, dtype));
  const Tensor x = random_tensor(device, rows, width, dtype);
  const Tensor y = device.allocate(rows, width, dtype);
  size_t turn = 0;
  const auto next = [&] {
    return Linear{.x = x, .weight = weights[turn++ % weights.size()], .y = y};
  };
  bench.measure(
      {.section = "dense products",
       .name = fmt::format("{}, {} rows x {} x {}", dtype_name(dtype), rows, width, width),
       .cost = next().cost()},
      dtype, [&] { device.execute(next()); });
}

void dense_products(Bench& bench, Device& device) {
  const bool quick = bench.settings().quick;
  for (const int64_t width : {1024, 2048, 4096})
    for (const int64_t rows : {512, 2048, 4096})
      if (!quick || rows == 512) linear(bench, device, DType::bf16, rows, width, false);
  linear(bench, device, DType::f32, 512, 1024, false);
  for (const int64_t rows : {1, 16, 32}) linear(bench, device, DType::bf16, rows, 2048, true);
}

std::vector<ExpertMatrices> matrices(const ParameterStore& store, int32_t layer) {
  using enum ParameterKind;
  std::vector<ExpertMatrices> all;
  for (int32_t e = 0; e < static_cast<int32_t>(store.config().experts); ++e) {
    ExpertMatrices& expert = all.emplace_back();
    if (store.config().gated_experts) expert.gate = store.whole({expert_gate, layer, e});
    expert.up = store.whole({expert_up, layer, e});
    expert.down = store.whole({expert_down, layer, e});
  }
  return all;
}

// All experts of a layer, layer after layer, with rows dealt out evenly.
void experts(Bench& bench, const ParameterStore& store, Device& device, int64_t tokens) {
  const ModelConfig& model = store.config();
  const int64_t rows = tokens * model.top_k;
  std::vector<std::vector<ExpertMatrices>> layers;
  for (int32_t layer = 0; layer < static_cast<int32_t>(model.layers); ++layer)
    layers.push_back(matrices(store, layer));
  const std::vector<Tensor> x{random_tensor(device, rows, model.hidden_size, store.dtype())};
  const std::vector<Tensor> y{device.allocate(rows, model.hidden_size, store.dtype())};
  std::vector<RowRef> refs;
  for (int32_t row = 0; row < rows; ++row) refs.push_back({0, row});
  std::vector<int32_t> offsets;
  for (int64_t e = 0; e <= model.experts; ++e)
    offsets.push_back(static_cast<int32_t>(rows * e / model.experts));
  size_t turn = 0;
  const auto next = [&] {
    return Experts{.in = {x, refs},
                   .out = {y, refs},
                   .offsets = offsets,
                   .weights = layers[turn++ % layers.size()]};
  };
  bench.measure({.section = "experts of a layer",
                 .name = fmt::format("{}, {} tokens, top-{} of {}", dtype_name(store.dtype()),
                                     tokens, model.top_k, model.experts),
                 .cost = next().cost()},
                store.dtype(), [&] { device.execute(next()); });
}

// `queries` positions at the end of each of some sequences of `context` tokens.
void attention(Bench& bench, const ParameterStore& store, Device& device, int64_t sequences,
               int64_t queries, int64_t context) {
  const ModelConfig& model = store.config();
  const int64_t blocks = kv_blocks(context);
  const int64_t key_rows = sequences * blocks * kv_block_tokens;
  const auto make = [&](int64_t rows, int64_t heads) {
    return random_tensor(device, rows, heads * model.head_dim, store.dtype());
  };
  std::vector<int32_t> block_rows(sequences * blocks), kv_head(model.heads);
  for (size_t i = 0; i < block_rows.size(); ++i)
    block_rows[i] = static_cast<int32_t>(i * kv_block_tokens);
  for (size_t head = 0; head < kv_head.size(); ++head)
    kv_head[head] = static_cast<int32_t>(head * model.kv_heads / model.heads);
  std::vector<AttentionSequence> list;
  for (int64_t s = 0; s < sequences; ++s)
    list.push_back({.query_rows = {s * queries, (s + 1) * queries},
                    .first_position = context - queries,
                    .block_rows = std::span(block_rows).subspan(s * blocks, blocks)});
  const Attention op{.q = make(sequences * queries, model.heads),
                     .keys = make(key_rows, model.kv_heads),
                     .values = make(key_rows, model.kv_heads),
                     .out = make(sequences * queries, model.heads),
                     .sequences = list,
                     .heads = {.head_dim = model.head_dim,
                               .value_dim = model.head_dim,
                               .kv_head = kv_head,
                               .scale = 1 / std::sqrt(static_cast<float>(model.head_dim))}};
  bench.measure({.section = "attention of a layer",
                 .name = fmt::format("{}, {} x {} queries at {} positions",
                                     dtype_name(store.dtype()), sequences, queries, context),
                 .cost = op.cost()},
                store.dtype(), [&] { device.execute(op); });
}

}  // namespace

void bench_kernels(Bench& bench, const ParameterStore& store, Device& device) {
  const bool quick = bench.settings().quick;
  dense_products(bench, device);
  for (const int64_t tokens : {512, 4096})
    if (!quick || tokens == 512) experts(bench, store, device, tokens);
  experts(bench, store, device, 32);
  attention(bench, store, device, 1, 512, 512);
  if (!quick) attention(bench, store, device, 1, 4096, 4096);
  attention(bench, store, device, 32, 1, 4096);
}

}  // namespace tandem::cli
