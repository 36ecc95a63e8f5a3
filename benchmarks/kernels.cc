// Products as the models use them, against what the machine can do (ceilings.h). The cores may be
// shared and their speed drifts: compare figures of one run, best with --benchmark_repetitions and
// --benchmark_enable_random_interleaving.
#include "tandem/device/cpu/kernels.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <vector>

#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/ceilings.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::benchmarks {
namespace {

class HeapStorage final : public Storage {
 public:
  explicit HeapStorage(cpu::Scratch memory, std::byte* bytes)
      : Storage(bytes), memory_(std::move(memory)) {}

 private:
  void last_release() override { delete this; }
  cpu::Scratch memory_;
};

Tensor make(int64_t rows, int64_t cols, DType dtype) {
  cpu::Scratch memory;
  auto* bytes = memory.get<std::byte>(rows * cols * size_of(dtype));
  Tensor t{.storage = StorageRef(new HeapStorage(std::move(memory), bytes)),
           .data = bytes,
           .dtype = dtype,
           .rows = rows,
           .cols = cols,
           .stride = cols};
  uint32_t state = 1;
  for (int64_t i = 0; i < rows * cols; ++i) {
    state = state * 1664525 + 1013904223;
    const float value = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
    if (dtype == DType::bf16)
      t.row<bfloat16>(0)[i] = cpu::to_bf16(value);
    else
      t.row<float>(0)[i] = value;
  }
  return t;
}

DType dtype_of(const benchmark::State& state) { return state.range(0) ? DType::bf16 : DType::f32; }

void set_rates(benchmark::State& state, double flops, double bytes) {
  using benchmark::Counter;
  const auto rounds = static_cast<double>(state.iterations());
  state.counters["gflops"] = Counter(flops * rounds / 1e9, Counter::kIsRate);
  state.counters["gbytes"] = Counter(bytes * rounds / 1e9, Counter::kIsRate);
}

// What the machine can do at best, with as many threads as a kernel uses.
void peak_flops(benchmark::State& state, DType dtype) {
  constexpr double seconds = 0.1;
  double flops = 0;
  for (auto _ : state)
    flops = cpu::peak_flops_per_second(dtype, static_cast<int>(state.range(0)), seconds);
  state.counters["gflops"] = flops / 1e9;
}
void peak_read(benchmark::State& state) {
  static const cpu::ReadProbe memory(int64_t{512} << 20);
  double bytes = 0;
  for (auto _ : state) bytes = memory.bytes_per_second(static_cast<int>(state.range(0)));
  state.counters["gbytes"] = bytes / 1e9;
}

// The operations take turns with several weights, so that these come from memory: at least 512 MB.
std::vector<Tensor> many_weights(int64_t rows, int64_t cols, DType dtype) {
  std::vector<Tensor> all;
  for (int64_t bytes = 0; bytes < (int64_t{512} << 20); bytes += all.back().bytes())
    all.push_back(make(rows, cols, dtype));
  return all;
}

void linear(benchmark::State& state) {
  const DType dtype = dtype_of(state);
  const int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  const std::vector<Tensor> weights = many_weights(n, k, dtype);
  const Tensor x = make(m, k, dtype), y = make(m, n, dtype);
  size_t turn = 0;
  for (auto _ : state)
    cpu::run(Linear{.x = x, .weight = weights[turn++ % weights.size()], .y = y},
             static_cast<int>(state.range(4)));
  set_rates(state, 2.0 * static_cast<double>(m * n * k), static_cast<double>(weights[0].bytes()));
}

void input_gradient(benchmark::State& state) {
  const DType dtype = dtype_of(state);
  const int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  const Tensor weight = make(n, k, dtype), dy = make(m, n, dtype), dx = make(m, k, dtype);
  for (auto _ : state)
    cpu::run(LinearInputGradient{.dy = dy, .weight = weight, .dx = dx},
             static_cast<int>(state.range(4)));
  set_rates(state, 2.0 * static_cast<double>(m * n * k), static_cast<double>(weight.bytes()));
}

void weight_gradient(benchmark::State& state) {
  const DType dtype = dtype_of(state);
  const int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  const Tensor x = make(m, k, dtype), dy = make(m, n, dtype), dweight = make(n, k, DType::f32);
  for (auto _ : state)
    cpu::run(LinearWeightGradient{.dy = dy, .x = x, .dweight = dweight, .dbias = {}},
             static_cast<int>(state.range(4)));
  set_rates(state, 2.0 * static_cast<double>(m * n * k), static_cast<double>(dweight.bytes() * 2));
}

// A layer's experts with rows dealt out evenly.
struct ExpertsFixture {
  ExpertsFixture(int64_t rows, int64_t experts, int64_t hidden, int64_t features, DType dtype)
      : x{make(rows, hidden, dtype)}, out{make(rows, hidden, dtype)} {
    for (int64_t e = 0; e < experts; ++e) {
      weights.push_back({make(features, hidden, dtype), make(features, hidden, dtype),
                         make(hidden, features, dtype)});
      offsets.push_back(static_cast<int32_t>(rows * e / experts));
    }
    offsets.push_back(static_cast<int32_t>(rows));
    for (int32_t i = 0; i < rows; ++i) list.push_back({0, i});
    for (size_t e = 0; e < weights.size(); ++e) used_experts += offsets[e + 1] > offsets[e];
  }
  double flops() const {
    return 6.0 * static_cast<double>(list.size()) * static_cast<double>(weights[0].up.elements());
  }
  double weight_bytes() const {
    return 3.0 * static_cast<double>(used_experts * weights[0].up.bytes());
  }
  std::vector<Tensor> x, out;
  std::vector<ExpertMatrices> weights, gradients;
  std::vector<int32_t> offsets;
  std::vector<RowRef> list;
  int64_t used_experts = 0;
};

void experts(benchmark::State& state) {
  const ExpertsFixture f(state.range(1), state.range(2), state.range(3), state.range(4),
                         dtype_of(state));
  for (auto _ : state)
    cpu::run(Experts{.in = {f.x, f.list},
                     .out = {f.out, f.list},
                     .offsets = f.offsets,
                     .weights = f.weights},
             static_cast<int>(state.range(5)));
  set_rates(state, f.flops(), f.weight_bytes());
}

void experts_backward(benchmark::State& state) {
  const int64_t rows = state.range(1), hidden = state.range(3), features = state.range(4);
  ExpertsFixture f(rows, state.range(2), hidden, features, dtype_of(state));
  for (size_t e = 0; e < f.weights.size(); ++e)
    f.gradients.push_back({make(features, hidden, DType::f32), make(features, hidden, DType::f32),
                           make(hidden, features, DType::f32)});
  const Tensor gate = make(rows, features, f.x[0].dtype), up = make(rows, features, f.x[0].dtype);
  const std::vector<Tensor> dx = {make(rows, hidden, f.x[0].dtype)};
  for (auto _ : state)
    cpu::run(ExpertsBackward{.in = {f.x, f.list},
                             .dy = {f.out, f.list},
                             .dx = {dx, f.list},
                             .offsets = f.offsets,
                             .weights = f.weights,
                             .gradients = f.gradients,
                             .gate = gate,
                             .up = up},
             static_cast<int>(state.range(5)));
  set_rates(state, 2 * f.flops(), f.weight_bytes() + 4 * f.weight_bytes());
}

// The last `queries` positions of each of some sequences of `context` tokens. Of heads wider than
// 512, values are the first 512 columns of the keys.
struct AttentionFixture {
  AttentionFixture(DType dtype, int64_t heads, int64_t kv_heads, int64_t head_dim,
                   int64_t sequences, int64_t queries, int64_t context) {
    const int64_t blocks = (context + kv_block_tokens - 1) / kv_block_tokens;
    const int64_t value_dim = head_dim > 512 ? 512 : head_dim;
    for (int64_t i = 0; i < sequences * blocks; ++i)
      block_rows.push_back(static_cast<int32_t>(i * kv_block_tokens));
    for (int64_t h = 0; h < heads; ++h)
      kv_head.push_back(static_cast<int32_t>(h * kv_heads / heads));
    for (int64_t s = 0; s < sequences; ++s)
      list.push_back({.query_rows = {s * queries, (s + 1) * queries},
                      .first_position = context - queries,
                      .block_rows = std::span(block_rows).subspan(s * blocks, blocks)});
    const int64_t rows = sequences * blocks * kv_block_tokens;
    op.q = make(sequences * queries, heads * head_dim, dtype);
    op.keys = make(rows, kv_heads * head_dim, dtype);
    op.values = value_dim < head_dim ? op.keys.slice_cols({0, value_dim})
                                     : make(rows, kv_heads * value_dim, dtype);
    op.out = make(sequences * queries, heads * value_dim, dtype);
    op.logsumexp = make(sequences * queries, heads, DType::f32);
    op.sequences = list;
    op.heads = {.head_dim = head_dim,
                .value_dim = value_dim,
                .kv_head = kv_head,
                .scale = 1 / std::sqrt(static_cast<float>(head_dim))};
  }
  std::vector<int32_t> block_rows, kv_head;
  std::vector<AttentionSequence> list;
  Attention op;
};

void attention(benchmark::State& state) {
  const AttentionFixture f(dtype_of(state), state.range(1), state.range(2), state.range(3),
                           state.range(4), state.range(5), state.range(6));
  for (auto _ : state) cpu::run(f.op, static_cast<int>(state.range(7)));
  set_rates(state, f.op.cost().flops, f.op.cost().bytes);
}

void attention_backward(benchmark::State& state) {
  const AttentionFixture f(dtype_of(state), state.range(1), state.range(2), state.range(3),
                           state.range(4), state.range(5), state.range(6));
  const auto same = [](const Tensor& t, DType dtype) { return make(t.rows, t.cols, dtype); };
  cpu::run(f.op, static_cast<int>(state.range(7)));
  AttentionBackward op{.q = f.op.q,
                       .keys = f.op.keys,
                       .values = f.op.values,
                       .out = f.op.out,
                       .logsumexp = f.op.logsumexp,
                       .dout = same(f.op.out, f.op.out.dtype),
                       .dq = same(f.op.q, f.op.q.dtype),
                       .dkeys = same(f.op.keys, DType::f32),
                       .dvalues = same(f.op.values, DType::f32),
                       .sequences = f.list,
                       .heads = f.op.heads};
  for (auto _ : state) cpu::run(op, static_cast<int>(state.range(7)));
  set_rates(state, op.cost().flops, op.cost().bytes);
}

// One iteration may take long; wall time, since work is done on several threads.
void common(benchmark::internal::Benchmark* b) {
  b->MeasureProcessCPUTime()->UseRealTime()->Unit(benchmark::kMillisecond);
}

BENCHMARK_CAPTURE(peak_flops, bf16, DType::bf16)->Apply(common)->ArgName("threads")->Arg(1)->Arg(2);
BENCHMARK_CAPTURE(peak_flops, f32, DType::f32)->Apply(common)->ArgName("threads")->Arg(1)->Arg(2);
BENCHMARK(peak_read)->Apply(common)->ArgName("threads")->Arg(1)->Arg(2);

void linear_sizes(benchmark::internal::Benchmark* b) {
  b->Apply(common)->ArgNames({"bf16", "m", "n", "k", "threads"});
  for (const int64_t size : {1024, 2048, 4096})
    for (const int64_t m : {1, 16, 32, 128, 512, 2048}) b->Args({1, m, size, size, 2});
  for (const int64_t m : {1, 16, 512}) b->Args({0, m, 2048, 2048, 2});
}
BENCHMARK(linear)->Apply(linear_sizes);

void gradient_sizes(benchmark::internal::Benchmark* b) {
  b->Apply(common)->ArgNames({"bf16", "m", "n", "k", "threads"});
  for (const int64_t size : {1024, 2048})
    for (const int64_t m : {512, 4096}) b->Args({1, m, size, size, 2});
  b->Args({0, 512, 1024, 1024, 2});
}
BENCHMARK(input_gradient)->Apply(gradient_sizes);
BENCHMARK(weight_gradient)->Apply(gradient_sizes);

void expert_sizes(benchmark::internal::Benchmark* b) {
  b->Apply(common)->ArgNames({"bf16", "rows", "experts", "hidden", "features", "threads"});
  for (const int64_t rows : {2, 32, 64, 1024, 8192}) b->Args({1, rows, 16, 1024, 2048, 2});
  b->Args({0, 1024, 16, 1024, 2048, 2});
}
BENCHMARK(experts)->Apply(expert_sizes);

void backward_sizes(benchmark::internal::Benchmark* b) {
  b->Apply(common)->ArgNames({"bf16", "rows", "experts", "hidden", "features", "threads"});
  for (const int64_t rows : {1024, 8192}) b->Args({1, rows, 16, 1024, 2048, 2});
}
BENCHMARK(experts_backward)->Apply(backward_sizes);

void attention_names(benchmark::internal::Benchmark* b) {
  b->Apply(common)->ArgNames(
      {"bf16", "heads", "kv_heads", "dim", "sequences", "queries", "context", "threads"});
}
void prefill_sizes(benchmark::internal::Benchmark* b) {
  attention_names(b);
  for (const int64_t tokens : {512, 2048}) {
    b->Args({1, 16, 16, 64, 1, tokens, tokens, 2});
    b->Args({1, 16, 4, 128, 1, tokens, tokens, 2});
  }
  b->Args({1, 16, 1, 576, 1, 1024, 1024, 2});
  b->Args({0, 16, 16, 64, 1, 512, 512, 2});
}
void decode_sizes(benchmark::internal::Benchmark* b) {
  attention_names(b);
  b->Args({1, 16, 16, 64, 16, 1, 4096, 2});
  b->Args({1, 32, 8, 128, 8, 1, 4096, 2});
  b->Args({1, 16, 1, 576, 16, 1, 4096, 2});
  b->Args({1, 16, 1, 576, 1, 1, 65536, 2});
}
BENCHMARK(attention)->Apply(prefill_sizes);
BENCHMARK(attention)->Apply(decode_sizes);
BENCHMARK(attention_backward)->Apply(prefill_sizes);

}  // namespace
}  // namespace tandem::benchmarks
