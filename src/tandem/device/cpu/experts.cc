#include "tandem/device/cpu/experts.h"

#include "tandem/device/cpu/activation.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/shares.h"

namespace tandem::cpu {
namespace {

// The forward pass of one wave: first all hidden features, then all results. Threads share the
// panels of weights of all tasks, so that they are busy with one expert or many, one row or
// thousands.
class Forward {
 public:
  Forward(const Experts& op, const Engine& engine, std::span<const ExpertTask> tasks,
          std::byte* hidden)
      : op_(op), engine_(engine), tasks_(tasks), hidden_(hidden) {}

  void run(int threads) const {
    static thread_local Scratch scratch;
    const std::span<Load> loads = pointers<Load>(scratch, static_cast<int64_t>(tasks_.size()));
    const auto share = [&](const auto& panels, const auto& body) {
      for (size_t i = 0; i < tasks_.size(); ++i)
        loads[i] = {panels(weights(tasks_[i])), cost(tasks_[i])};
      share_panels(threads, loads, [&](size_t task, const Interval& part) {
        const TileSession session(engine_);
        body(tasks_[task], part);
      });
    };
    share([&](const ExpertMatrices& w) { return hidden_panels(w); },
          [&](const ExpertTask& task, const Interval& part) { compute_hidden(task, part); });
    share([&](const ExpertMatrices& w) { return blocks_of(w.down.rows); },
          [&](const ExpertTask& task, const Interval& part) { compute_rows(task, part); });
  }

 private:
  const ExpertMatrices& weights(const ExpertTask& task) const { return op_.weights[task.expert]; }
  static int64_t features_of_panel(const ExpertMatrices& w) { return w.gate ? 16 : block_rows; }
  static int64_t hidden_panels(const ExpertMatrices& w) {
    return (w.up.rows + features_of_panel(w) - 1) / features_of_panel(w);
  }
  // Few rows cost as much as reading the weights does.
  static int64_t cost(const ExpertTask& task) { return std::max<int64_t>(task.rows.size(), 32); }

  PackedRows hidden_of(const ExpertTask& task) const {
    const int64_t depth = weights(task).up.rows;
    return {
        {hidden_ + task.hidden_bytes, packed_bytes(engine_, 16, depth)}, task.rows.size(), depth};
  }

  void compute_hidden(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch row_scratch, packed;
    const ExpertMatrices& w = weights(task);
    const int64_t rows = task.rows.size(), depth = w.up.cols;
    const PackedRows x =
        pack_rows(engine_, {rows_of<const std::byte*>(op_.in, task.rows, row_scratch), depth},
                  packed.get<std::byte>(packed_bytes(engine_, rows, depth)));
    multiply_panels(
        engine_, panels,
        [&](int64_t panel) {
          return w.gate ? weight_rows(w.gate, w.up, panel) : weight_rows(w.up, panel);
        },
        depth, x,
        [&](int64_t panel, Sums& sums, const Interval& some) {
          activate(task, panel, some, sums);
        });
  }

  // From sums of gate and up (or of up alone) to hidden features, for some of the task's rows.
  void activate(const ExpertTask& task, int64_t panel, const Interval& rows, Sums& sums) const {
    const ExpertMatrices& w = weights(task);
    const int64_t width = features_of_panel(w);
    const Interval features{panel * width, std::min((panel + 1) * width, w.up.rows)};
    const Interval pairs = rows.shifted(task.rows.begin);
    // Rounded as they are kept for the backward pass, whether they are kept or not.
    if (engine_.dtype == DType::bf16) round_to_bf16(sums[0], block_rows * block_columns);
    float(*const up)[block_columns] = w.gate ? sums + 16 : sums;
    if (op_.gate.data && w.gate) keep(op_.gate, sums, pairs, features);
    if (op_.up.data) keep(op_.up, up, pairs, features);
    alignas(64) Sums h, scale = {};
    if (op_.dropout.active()) {
      alignas(64) float row[block_rows];
      for (int64_t i = 0; i < pairs.size(); ++i) {
        dropout_scales(op_.dropout, pairs.begin + i, features.shifted(w.first_feature), row);
        for (int64_t f = 0; f < features.size(); ++f) scale[f][i] = row[f];
      }
    }
    hidden({.activation = op_.activation,
            .gate = w.gate ? sums[0] : nullptr,
            .up = up[0],
            .scale = op_.dropout.active() ? scale[0] : nullptr,
            .count = width * block_columns},
           h[0]);
    if (engine_.dtype == DType::bf16) round_to_bf16(h[0], width * block_columns);
    put(task, panel == hidden_panels(w) - 1, features.begin, width, rows, h);
  }

  void keep(const Tensor& t, const float (*sums)[block_columns], const Interval& pairs,
            const Interval& features) const {
    std::byte* rows[block_columns];
    for (int64_t i = 0; i < pairs.size(); ++i) rows[i] = t.row_bytes(pairs.begin + i);
    store_block_transposed(sums, {.rows = {rows, static_cast<size_t>(pairs.size())},
                                  .cols = features.size(),
                                  .first = features.begin,
                                  .dtype = t.dtype});
  }

  // Into the strips that the product with `down` reads; zeros behind the last feature.
  void put(const ExpertTask& task, bool last, int64_t feature, int64_t width, const Interval& rows,
           const Sums& h) const {
    const PackedRows all = hidden_of(task);
    const int64_t end = engine_.lines(all.depth) * engine_.depth_of_line();
    const int64_t count = std::min(width, end - feature);
    for (int64_t column = 0; column < rows.size(); column += 16) {
      std::byte* strip = const_cast<std::byte*>(all.strips.data) +
                         (rows.begin + column) / 16 * all.strips.strip_step;
      put_features(engine_, h[0] + column, block_columns, feature, count, strip);
      if (last)
        std::memset(strip + engine_.dwords(feature + count) * line_bytes, 0,
                    static_cast<size_t>(engine_.dwords(end - feature - count) * line_bytes));
    }
  }

  void compute_rows(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch row_scratch;
    const Tensor& down = weights(task).down;
    const std::span<std::byte*> out = rows_of<std::byte*>(op_.out, task.rows, row_scratch);
    const PackedRows h = hidden_of(task);
    multiply_panels(
        engine_, panels, [&](int64_t panel) { return weight_rows(down, panel); }, h.depth, h,
        [&](int64_t panel, const Sums& sums, const Interval& some) {
          Target to{.rows = part_of(out, some),
                    .first = panel * block_rows,
                    .dtype = op_.out.sources[0].dtype};
          to.cols = std::min(block_rows, down.rows - to.first);
          store_block_transposed(sums, to);
        });
  }

  const Experts& op_;
  const Engine& engine_;
  std::span<const ExpertTask> tasks_;
  std::byte* hidden_;
};

}  // namespace

void run(const Experts& op, int threads) {
  if (op.in.size() == 0) return;
  static thread_local Scratch task_scratch, hidden_scratch;
  const Engine engine = engine_for(op.weights[0].up.dtype);
  const int64_t task_rows = rows_at_once(op.in.size(), 1);
  Waves waves(op.offsets, task_rows * threads, task_rows);
  const auto room = pointers<ExpertTask>(task_scratch, static_cast<int64_t>(op.weights.size()));
  for (auto tasks = waves.next(room); !tasks.empty(); tasks = waves.next(room)) {
    int64_t bytes = 0;
    for (ExpertTask& task : tasks) {
      task.hidden_bytes = bytes;
      bytes += packed_bytes(engine, task.rows.size(), op.weights[task.expert].up.rows);
    }
    Forward(op, engine, tasks, hidden_scratch.get<std::byte>(bytes)).run(threads);
  }
}

}  // namespace tandem::cpu
