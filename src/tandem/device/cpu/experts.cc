#include "tandem/device/cpu/experts.h"

#include "tandem/device/cpu/activation.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/eight_bits.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/random_lanes.h"
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
    for (const ExpertTask& task : tasks_) clear_last_lines(task);
    share([&](const ExpertMatrices& w) { return hidden_panels(w); },
          [&](const ExpertTask& task, const Interval& part) { compute_hidden(task, part); });
    share([&](const ExpertMatrices& w) { return blocks_of(w.down.rows); },
          [&](const ExpertTask& task, const Interval& part) { compute_rows(task, part); });
  }

 private:
  const ExpertMatrices& weights(const ExpertTask& task) const { return op_.weights[task.expert]; }
  // As rows of bf16, which become int8 when all of them are there.
  std::span<std::byte*> hidden_rows(const ExpertTask& task, Scratch& scratch) const {
    const int64_t row_bytes = weights(task).up.rows * size_of(DType::bf16);
    const auto list = pointers<std::byte*>(scratch, task.rows.size());
    for (size_t i = 0; i < list.size(); ++i)
      list[i] = hidden_ + task.hidden_bytes + static_cast<int64_t>(i) * row_bytes;
    return list;
  }
  static int64_t features_of_panel(const ExpertMatrices& w) { return w.gate ? 16 : block_rows; }
  static int64_t hidden_panels(const ExpertMatrices& w) {
    return (w.up.rows + features_of_panel(w) - 1) / features_of_panel(w);
  }
  // Few rows cost as much as reading the weights does.
  static int64_t cost(const ExpertTask& task) { return std::max<int64_t>(task.rows.size(), 32); }

  PackedRows hidden_of(const ExpertTask& task) const {
    PackedRows rows = packed_rows(engine_, task.rows.size(), weights(task).up.rows);
    rows.strips.data = hidden_ + task.hidden_bytes;
    return rows;
  }

  void compute_hidden(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch row_scratch, packed;
    const ExpertMatrices& w = weights(task);
    const int64_t depth = w.up.cols;
    const PackedRows x = pack_rows(
        engine_, {rows_of<const std::byte*>(op_.in, task.rows, row_scratch), depth}, packed);
    multiply_panels(
        engine_, panels,
        [&](int64_t panel) {
          return w.gate ? weight_rows(w.gate, w.up, panel) : weight_rows(w.up, panel);
        },
        depth, x,
        [&](int64_t panel, Sums& sums, const Interval& some, HandOn steps) {
          activate(task, panel, some, sums, steps);
        });
  }

  // From sums of gate and up (or of up alone) to hidden features, for some of the task's rows.
  void activate(const ExpertTask& task, int64_t panel, const Interval& rows, Sums& sums,
                HandOn steps) const {
    if (!engine_.lies(rows.size()))
      for (int step = steps.begin; step < steps.end; ++step)
        activate_step(task, panel, rows, sums, step);
    else if (steps.ends())
      make_few_features(task, panel, rows, sums);
  }

  // Each step makes some features; with dropout one makes all, since random numbers come in runs,
  // and where they are stored as rows.
  void activate_step(const ExpertTask& task, int64_t panel, const Interval& rows, Sums& sums,
                     int step) const {
    const ExpertMatrices& w = weights(task);
    const int64_t width = features_of_panel(w);
    constexpr int preparing = hand_on_steps / 2;
    const bool all = op_.dropout.active() || engine_.quads;
    const int64_t at_once = all ? width : width / (hand_on_steps - preparing);
    const int64_t first = (step - preparing) * at_once;
    if (0 <= first && first < width)
      make_features(task, panel * width, {first, first + at_once}, rows, sums);
    if (step + 1 < hand_on_steps || !op_.up.data) return;
    const Interval features{panel * width, std::min((panel + 1) * width, w.up.rows)};
    if (w.gate) keep(op_.gate, sums, rows.shifted(task.rows.begin), features);
    keep(op_.up, up_sums(w, sums), rows.shifted(task.rows.begin), features);
  }

  static float (*up_sums(const ExpertMatrices& w, Sums& sums))[block_columns] {
    return w.gate ? sums + 16 : sums;
  }

  // All features of a panel for few rows, which lie as they are stored: those of gate before those
  // of up.
  void make_few_features(const ExpertTask& task, int64_t panel, const Interval& rows,
                         Sums& sums) const {
    const ExpertMatrices& w = weights(task);
    const int64_t width = features_of_panel(w), first = panel * width;
    alignas(64) float h[few_columns * block_rows];
    round_to_bf16(sums[0], rows.size() * block_rows);
    hidden({.activation = op_.activation,
            .gate = w.gate ? sums[0] : nullptr,
            .up = w.gate ? sums[0] + width : sums[0],
            .count = width,
            .rows = rows.size(),
            .row_step = block_rows},
           h);
    std::byte* to = few_place(task, rows.begin, first);
    const int64_t step = engine_.quads ? w.up.rows * 2 : line_bytes;
    for (int64_t r = 0; r < rows.size(); ++r, to += step)
      write_floats(h + r * block_rows, to, DType::bf16, std::min(width, w.up.rows - first));
  }
  std::byte* few_place(const ExpertTask& task, int64_t row, int64_t feature) const {
    std::byte* const all = hidden_ + task.hidden_bytes;
    if (engine_.quads) return all + (row * weights(task).up.rows + feature) * 2;
    const int64_t depth = engine_.depth_of_line();
    return hidden_of(task).strips.at(row / block_columns, feature / depth) +
           row % block_columns * line_bytes + feature % depth * 2;
  }

  // Features first + some of the whole, which the panel has as `some`.
  void make_features(const ExpertTask& task, int64_t first, const Interval& some,
                     const Interval& rows, Sums& sums) const {
    const ExpertMatrices& w = weights(task);
    const Interval pairs = rows.shifted(task.rows.begin), features = some.shifted(first);
    const int64_t count = some.size() * block_columns;
    float *const gate = sums[some.begin], *const up = up_sums(w, sums)[some.begin];
    // Rounded as they are kept for the backward pass, whether they are kept or not.
    const bool rounds = engine_.dtype == DType::bf16;
    if (rounds) round_to_bf16(up, count);
    if (rounds && w.gate) round_to_bf16(gate, count);
    alignas(64) Sums h, mask, scale;
    if (op_.dropout.active()) {
      std::memset(scale, 0, sizeof(scale));
      dropout_mask(op_.dropout, pairs, features.shifted(w.first_feature), mask[0], block_columns);
      for (int64_t i = 0; i < pairs.size(); ++i)
        for (int64_t f = 0; f < features.size(); ++f) scale[f][i] = mask[i][f];
    }
    hidden({.activation = op_.activation,
            .gate = w.gate ? gate : nullptr,
            .up = up,
            .scale = op_.dropout.active() ? scale[0] : nullptr,
            .count = count},
           h[0]);
    if (rounds) round_to_bf16(h[0], count);
    engine_.quads ? put_rows(task, features, rows, h) : put(task, features, rows, h);
  }

  void keep(const Tensor& t, float (*sums)[block_columns], const Interval& pairs,
            const Interval& features) const {
    std::byte* rows[block_columns];
    for (int64_t i = 0; i < pairs.size(); ++i) rows[i] = t.row_bytes(pairs.begin + i);
    const Target to{.rows = {rows, static_cast<size_t>(pairs.size())},
                    .cols = features.size(),
                    .first = features.begin,
                    .dtype = t.dtype};
    store_block_transposed(sums, to);
  }

  void put_rows(const ExpertTask& task, const Interval& depth, const Interval& rows,
                Sums& h) const {
    static thread_local Scratch scratch;
    const Interval there{depth.begin, std::min(depth.end, weights(task).up.rows)};
    store_block_transposed(h, {.rows = part_of(hidden_rows(task, scratch), rows),
                               .cols = there.size(),
                               .first = there.begin,
                               .dtype = DType::bf16});
  }

  // Into the strips that the product with `down` reads.
  void put(const ExpertTask& task, Interval depth, const Interval& rows, const Sums& h) const {
    const Strips& strips = hidden_of(task).strips;
    depth.end = std::min(depth.end, strips.lines * engine_.depth_of_line());
    if (depth.empty()) return;
    put_features(engine_, h, depth, static_cast<int>(rows.size()), strips,
                 rows.begin / block_columns);
  }

  // Behind the last feature a line is filled up with zeros.
  void clear_last_lines(const ExpertTask& task) const {
    if (engine_.quads) return;
    const Strips& strips = hidden_of(task).strips;
    for (int64_t i = 0; i < strips.count; ++i)
      std::memset(strips.at(i, strips.lines - 1), 0, strip_line_bytes);
  }

  PackedRows packed_hidden(const ExpertTask& task) const {
    static thread_local Scratch row_scratch, packed;
    const std::span<std::byte*> rows = hidden_rows(task, row_scratch);
    return pack_rows(engine_, {{rows.data(), rows.size()}, weights(task).up.rows}, packed);
  }

  void compute_rows(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch row_scratch;
    const Tensor& down = weights(task).down;
    const std::span<std::byte*> out = rows_of<std::byte*>(op_.out, task.rows, row_scratch);
    const PackedRows h = engine_.quads ? packed_hidden(task) : hidden_of(task);
    multiply_panels(
        engine_, panels, [&](int64_t panel) { return weight_rows(down, panel); }, h.depth, h,
        [&](int64_t panel, Sums& sums, const Interval& some, HandOn steps) {
          Target to{.rows = part_of(out, some),
                    .first = panel * block_rows,
                    .dtype = op_.out.sources[0].dtype};
          to.cols = std::min(block_rows, down.rows - to.first);
          store_sums(engine_, sums, to, steps);
        });
  }

  const Experts& op_;
  const Engine& engine_;
  std::span<const ExpertTask> tasks_;
  std::byte* hidden_;
};

int64_t hidden_bytes(const Engine& engine, int64_t rows, int64_t features) {
  return engine.quads ? rows * features * size_of(DType::bf16)
                      : packed_rows(engine, rows, features).strips.bytes();
}

// One expert after the other.
void run_widened(const Experts& op, int threads) {
  static thread_local Scratch gate, up, down;
  for (size_t e = 0; e < op.weights.size(); ++e) {
    const Interval rows{op.offsets[e], op.offsets[e + 1]};
    if (rows.empty()) continue;
    const ExpertMatrices& w = op.weights[e];
    const ExpertMatrices matrices{.gate = w.gate ? widened(w.gate, gate, threads) : Tensor{},
                                  .up = widened(w.up, up, threads),
                                  .down = widened(w.down, down, threads),
                                  .first_feature = w.first_feature};
    const int32_t offsets[] = {0, static_cast<int32_t>(rows.size())};
    Experts one = op;
    one.in.rows = part_of(op.in.rows, rows);
    one.out.rows = part_of(op.out.rows, rows);
    one.offsets = offsets;
    one.weights = {&matrices, 1};
    run(one, threads);
  }
}

}  // namespace

void run(const Experts& op, int threads) {
  if (op.in.size() == 0) return;
  if (eight_bits(op.weights[0].up.dtype)) {
    TANDEM_CHECK(!op.up && !op.dropout.active(), "weights of 8 bits are not trained");
    if (!multiplied_as_int8(op.weights[0].down)) return run_widened(op, threads);
  }
  static thread_local Scratch task_scratch, hidden_scratch;
  const bool keeps = op.up.data || op.dropout.active();
  const DType dtype = op.weights[0].up.dtype;
  const Engine engine = keeps ? standing_engine_for(dtype) : engine_for(dtype);
  const int64_t task_rows = rows_at_once(engine, op.in.size(), op.weights[0].up.cols, 1);
  Waves waves(op.offsets, task_rows * threads, task_rows);
  const auto room = pointers<ExpertTask>(task_scratch, static_cast<int64_t>(op.weights.size()));
  for (auto tasks = waves.next(room); !tasks.empty(); tasks = waves.next(room)) {
    int64_t bytes = 0;
    for (ExpertTask& task : tasks) {
      task.hidden_bytes = bytes;
      bytes += hidden_bytes(engine, task.rows.size(), op.weights[task.expert].up.rows);
    }
    Forward(op, engine, tasks, hidden_scratch.get<std::byte>(bytes)).run(threads);
  }
}

}  // namespace tandem::cpu
