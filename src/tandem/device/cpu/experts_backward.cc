#include "tandem/device/cpu/activation.h"
#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/experts.h"
#include "tandem/device/cpu/gradients.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/random_lanes.h"
#include "tandem/device/cpu/shares.h"

namespace tandem::cpu {
namespace {

// A matrix [rows of the wave, hidden features] in scratch memory, in the compute type.
struct Features {
  std::byte* data = nullptr;
  int64_t row_bytes = 0;

  template <class Pointer>
  std::span<Pointer> rows(const Interval& some, Scratch& scratch) const {
    const auto list = pointers<Pointer>(scratch, some.size());
    for (size_t i = 0; i < list.size(); ++i)
      list[i] = data + (some.begin + static_cast<int64_t>(i)) * row_bytes;
    return list;
  }
};

// The backward pass of one wave: first h and the gradients of the pre-activations from those of h;
// then, from these, the gradients of the rows and of the matrices.
class Backward {
 public:
  Backward(const ExpertsBackward& op, const Engine& engine, std::span<const ExpertTask> tasks)
      : op_(op), engine_(engine), tasks_(tasks) {
    static thread_local Scratch scratch[3];
    const int64_t rows = tasks.back().rows.end - tasks.front().rows.begin;
    const int64_t row_bytes = op.up.cols * size_of(engine.dtype);
    for (size_t i = 0; i < 3; ++i)
      *std::array{&h_, &dgate_, &dup_}[i] = {scratch[i].get<std::byte>(rows * row_bytes),
                                             row_bytes};
  }

  void run(int threads) const {
    static thread_local Scratch scratch;
    const auto count = static_cast<int64_t>(tasks_.size());
    std::span<Load> loads = pointers<Load>(scratch, 3 * count);
    for (size_t i = 0; i < tasks_.size(); ++i)
      loads[i] = {blocks_of(weights(tasks_[i]).up.rows), tasks_[i].rows.size()};
    share_panels(threads, loads.first(tasks_.size()), [&](size_t i, const Interval& part) {
      const TileSession session(engine_);
      hidden_gradient(tasks_[i], part);
    });
    for (size_t i = 0; i < tasks_.size(); ++i) set_loads(tasks_[i], loads.subspan(3 * i, 3));
    share_panels(threads, loads, [&](size_t i, const Interval& part) {
      const TileSession session(engine_);
      const ExpertTask& task = tasks_[i / 3];
      if (i % 3 == 0) row_gradient(task, part);
      if (i % 3 == 1) down_gradient(task, part);
      if (i % 3 == 2) up_gradients(task, part);
    });
  }

 private:
  const ExpertMatrices& weights(const ExpertTask& task) const { return op_.weights[task.expert]; }
  // A task's rows in the scratch matrices.
  Interval in_wave(const ExpertTask& task) const {
    return task.rows.shifted(-tasks_.front().rows.begin);
  }

  // Costs count products of 32 x 32 blocks of weights and rows.
  void set_loads(const ExpertTask& task, std::span<Load> loads) const {
    const ExpertMatrices& w = weights(task);
    const int64_t rows = task.rows.size(), pairs = w.gate ? 2 : 1;
    loads[0] = {blocks_of(w.up.cols), rows * blocks_of(w.up.rows) * pairs};
    loads[1] = {blocks_of(w.down.rows), rows * blocks_of(w.up.rows)};
    loads[2] = {blocks_of(w.up.rows), rows * blocks_of(w.up.cols) * pairs};
  }

  void hidden_gradient(const ExpertTask& task, const Interval& blocks) const {
    static thread_local Scratch row_scratch;
    const Tensor& down = weights(task).down;
    const GradientTerm term{{rows_of<const std::byte*>(op_.dy, task.rows, row_scratch), down.rows},
                            down};
    InputGradient(engine_, {&term, 1})
        .blocks(blocks, [&](const Sums& dh, const Interval& rows, const Interval& features) {
          activate_backward(task, rows, features, dh);
        });
  }

  void activate_backward(const ExpertTask& task, const Interval& rows, const Interval& features,
                         const Sums& dh) const {
    const bool gated = static_cast<bool>(weights(task).gate);
    const Interval pairs = rows.shifted(task.rows.begin);
    alignas(64) Sums gate = {}, up = {}, scale = {}, h, dgate, dup;
    for (int64_t i = 0; i < pairs.size(); ++i) {
      const auto read = [&](const Tensor& t, float* to) {
        read_floats(t.row_bytes(pairs.begin + i) + features.begin * size_of(t.dtype), t.dtype, to,
                    features.size());
      };
      if (gated) read(op_.gate, gate[i]);
      read(op_.up, up[i]);
    }
    if (op_.dropout.active())
      dropout_mask(op_.dropout, pairs, features.shifted(weights(task).first_feature), scale[0],
                   block_columns);
    hidden_backward({.activation = op_.activation,
                     .gate = gated ? gate[0] : nullptr,
                     .up = up[0],
                     .scale = op_.dropout.active() ? scale[0] : nullptr,
                     .count = pairs.size() * block_columns},
                    dh[0], h[0], dgate[0], dup[0]);
    const Interval kept = rows.shifted(in_wave(task).begin);
    keep(h_, kept, features, h);
    if (gated) keep(dgate_, kept, features, dgate);
    keep(dup_, kept, features, dup);
  }

  void keep(const Features& to, const Interval& rows, const Interval& features,
            const Sums& numbers) const {
    static thread_local Scratch scratch;
    store_block(numbers, {.rows = to.rows<std::byte*>(rows, scratch),
                          .cols = features.size(),
                          .first = features.begin,
                          .dtype = engine_.dtype});
  }

  RowsOf features_of(const Features& features, const ExpertTask& task, Scratch& scratch) const {
    return {features.rows<const std::byte*>(in_wave(task), scratch), weights(task).up.rows};
  }

  // dx = dgate W_gate + dup W_up.
  void row_gradient(const ExpertTask& task, const Interval& blocks) const {
    static thread_local Scratch dgate_scratch, dup_scratch, dx_scratch;
    const ExpertMatrices& w = weights(task);
    const GradientTerm terms[] = {{features_of(dgate_, task, dgate_scratch), w.gate},
                                  {features_of(dup_, task, dup_scratch), w.up}};
    input_gradient(engine_, std::span(terms).subspan(w.gate ? 0 : 1), blocks,
                   {.rows = rows_of<std::byte*>(op_.dx, task.rows, dx_scratch),
                    .dtype = op_.dx.sources[0].dtype});
  }

  void down_gradient(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch dy_scratch, h_scratch;
    const Tensor& gradient = op_.gradients[task.expert].down;
    if (!gradient) return;
    weight_gradient(engine_,
                    {rows_of<const std::byte*>(op_.dy, task.rows, dy_scratch), gradient.rows},
                    features_of(h_, task, h_scratch), gradient, panels);
  }

  void up_gradients(const ExpertTask& task, const Interval& panels) const {
    static thread_local Scratch d_scratch, x_scratch;
    const ExpertMatrices& gradients = op_.gradients[task.expert];
    const RowsOf x{rows_of<const std::byte*>(op_.in, task.rows, x_scratch), weights(task).up.cols};
    if (gradients.gate)
      weight_gradient(engine_, features_of(dgate_, task, d_scratch), x, gradients.gate, panels);
    if (gradients.up)
      weight_gradient(engine_, features_of(dup_, task, d_scratch), x, gradients.up, panels);
  }

  const ExpertsBackward& op_;
  const Engine& engine_;
  std::span<const ExpertTask> tasks_;
  Features h_, dgate_, dup_;
};

}  // namespace

void run(const ExpertsBackward& op, int threads) {
  if (op.in.size() == 0) return;
  static thread_local Scratch task_scratch;
  const Engine engine = standing_engine_for(op.weights[0].up.dtype);
  constexpr int64_t task_rows = 1024;
  Waves waves(op.offsets, task_rows * threads, task_rows);
  const auto room = pointers<ExpertTask>(task_scratch, static_cast<int64_t>(op.weights.size()));
  for (auto tasks = waves.next(room); !tasks.empty(); tasks = waves.next(room))
    Backward(op, engine, tasks).run(threads);
}

}  // namespace tandem::cpu
