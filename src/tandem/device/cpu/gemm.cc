#include "tandem/device/cpu/gemm.h"

#include "tandem/device/cpu/bf16.h"
#include "tandem/device/cpu/eight_bits.h"
#include "tandem/device/cpu/gradients.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/panels.h"
#include "tandem/device/cpu/shares.h"

namespace tandem::cpu {
namespace {

std::optional<Bf16Path>& forced_path() {
  static std::optional<Bf16Path> path;
  return path;
}

}  // namespace

bool bf16_path_supported(Bf16Path path) {
  if (path == Bf16Path::amx) return amx_supported();
  return path == Bf16Path::as_f32 || __builtin_cpu_supports("avx512bf16");
}

Bf16Path bf16_path() {
  static const Bf16Path fastest = bf16_path_supported(Bf16Path::amx)      ? Bf16Path::amx
                                  : bf16_path_supported(Bf16Path::avx512) ? Bf16Path::avx512
                                                                          : Bf16Path::as_f32;
  return forced_path().value_or(fastest);
}

void set_bf16_path(std::optional<Bf16Path> path) {
  TANDEM_CHECK(!path || bf16_path_supported(*path), "this processor lacks the forced bf16 path");
  forced_path() = path;
}

Engine engine_for(DType dtype) {
  if (dtype == DType::int8) {
    const bool vnni = vnni_supported() && bf16_path() != Bf16Path::as_f32;
    return {.multiply = vnni ? vnni_block : int8_block,
            .multiply_few = vnni ? vnni_few : nullptr,
            .dtype = DType::bf16,
            .quads = true,
            .brings = vnni};
  }
  if (dtype == DType::f32) return {.multiply = f32_block, .dtype = dtype};
  switch (bf16_path()) {
    case Bf16Path::amx:
      return {.multiply = amx_block, .dtype = dtype, .pairs = true, .tiles = true};
    case Bf16Path::avx512:
      return {.multiply = avx512_bf16_block,
              .multiply_few = avx512_bf16_few,
              .dtype = dtype,
              .pairs = true,
              .brings = true};
    case Bf16Path::as_f32:
      break;
  }
  return {.multiply = f32_block, .dtype = dtype, .widen = true};
}

Engine standing_engine_for(DType dtype) {
  Engine engine = engine_for(dtype);
  engine.multiply_few = nullptr;
  return engine;
}

namespace {

// Pointers to the rows of a tensor that a thread works on.
template <class Pointer>
std::span<Pointer> rows_of(const Tensor& t, const Interval& rows, Scratch& scratch) {
  const auto list = pointers<Pointer>(scratch, rows.size());
  for (int64_t i = rows.begin; i < rows.end; ++i)
    list[static_cast<size_t>(i - rows.begin)] = t.row_bytes(i);
  return list;
}

// Blocks of rows of activations, each with `panels` panels of weights, shared among threads:
// body(rows, panels).
template <class Body>
void share_rows(int threads, int64_t rows, int64_t at_once, int64_t panels, const Body& body) {
  static thread_local Scratch scratch;
  const int64_t count = (rows + at_once - 1) / at_once;
  const std::span<Load> loads = pointers<Load>(scratch, count);
  const auto rows_in = [&](int64_t i) {
    return Interval{i * at_once, std::min((i + 1) * at_once, rows)};
  };
  for (int64_t i = 0; i < count; ++i) loads[static_cast<size_t>(i)] = {panels, rows_in(i).size()};
  share_panels(threads, loads, [&](size_t i, const Interval& part) {
    body(rows_in(static_cast<int64_t>(i)), part);
  });
}

// A bias as f32, or none.
class Bias {
 public:
  Bias(const Tensor& bias, const Interval& columns, Scratch& scratch) : columns_(columns) {
    if (!bias.data) return;
    float* to = scratch.get<float>(blocks_of(columns.size()) * block_rows);
    read_floats(bias.data + columns.begin * size_of(bias.dtype), bias.dtype, to, columns.size());
    numbers_ = to;
  }
  const float* at(int64_t column) const {
    return numbers_ ? numbers_ + column - columns_.begin : nullptr;
  }

 private:
  Interval columns_;
  const float* numbers_ = nullptr;
};

// From how many rows of x on it is cheaper to pack the weights and to turn no sums.
constexpr int64_t many_rows = 1024;

// Some rows of x are packed, and weights pass by where they lie.
void linear_rows(const Engine& engine, const Linear& op, const Interval& rows,
                 const Interval& panels) {
  static thread_local Scratch x_rows, y_rows, bias_scratch, packed;
  const TileSession session(engine);
  const RowsOf from{rows_of<const std::byte*>(op.x, rows, x_rows), op.x.cols};
  const PackedRows x = pack_rows(engine, from, packed);
  const std::span<std::byte*> y = rows_of<std::byte*>(op.y, rows, y_rows);
  const Bias bias(op.bias, {panels.begin * block_rows, op.weight.rows}, bias_scratch);
  const auto store = [&](int64_t panel, Sums& sums, const Interval& some, HandOn steps) {
    const int64_t first = panel * block_rows;
    store_sums(engine, sums,
               {.rows = part_of(y, some),
                .cols = std::min(block_rows, op.weight.rows - first),
                .first = first,
                .dtype = op.y.dtype,
                .accumulate = op.accumulate,
                .bias = bias.at(first)},
               steps);
  };
  multiply_panels(
      engine, panels, [&](int64_t panel) { return weight_rows(op.weight, panel); }, op.x.cols, x,
      store);
}

// The rows of a matrix pass by, where they lie, a slice of another one that is packed: the sums for
// columns [first, first + packed.rows) of `to`, row by row as they are stored.
void multiply_rows(const Engine& engine, const Tensor& rows, const PackedRows& packed,
                   const Target& to) {
  multiply_panels(
      engine, {0, blocks_of(rows.rows)}, [&](int64_t panel) { return weight_rows(rows, panel); },
      packed.depth, packed,
      [&](int64_t panel, Sums& sums, const Interval& columns, HandOn steps) {
        Target block = to;
        block.rows =
            part_of(to.rows, {panel * block_rows, std::min((panel + 1) * block_rows, rows.rows)});
        block.first += columns.begin;
        block.cols = columns.size();
        if (to.bias) block.bias += columns.begin;
        for (int step = steps.begin; step < steps.end; ++step) store_block(sums, block, step);
      });
}

// Runs body(columns) for slices of the columns of a result, so wide that what is packed for them
// stays in the second-level cache.
template <class Body>
void share_columns(int threads, const Engine& engine, int64_t count, int64_t depth,
                   const Body& body) {
  const int64_t at_once = rows_at_once(engine, count, depth, threads);
  parallel_items(threads, (count + at_once - 1) / at_once, [&](int64_t i) {
    body(Interval{i * at_once, std::min((i + 1) * at_once, count)});
  });
}

// The other way about, for many rows: some rows of the weights are packed, and those of x pass by.
// Sums then lie as they are stored. An element is the same sum in the same order.
void linear_columns(const Engine& engine, const Linear& op, const Interval& columns) {
  static thread_local Scratch weight_scratch, y_rows, bias_scratch, packed;
  const TileSession session(engine);
  const RowsOf from{rows_of<const std::byte*>(op.weight, columns, weight_scratch), op.x.cols};
  multiply_rows(engine, op.x, pack_rows(engine, from, packed),
                {.rows = rows_of<std::byte*>(op.y, {0, op.y.rows}, y_rows),
                 .first = columns.begin,
                 .dtype = op.y.dtype,
                 .accumulate = op.accumulate,
                 .bias = Bias(op.bias, columns, bias_scratch).at(columns.begin)});
}

// As many rows of the weights at a time as stay in the second-level cache.
void run_widened(const Linear& op, int threads) {
  static thread_local Scratch scratch;
  const int64_t at_once = std::max<int64_t>(block_rows, (1 << 19) / op.weight.cols / 32 * 32);
  for (int64_t first = 0; first < op.weight.rows; first += at_once) {
    const Interval some{first, std::min(first + at_once, op.weight.rows)};
    Linear part = op;
    part.weight = widened(op.weight.slice_rows(some), scratch, threads);
    if (op.bias) part.bias = op.bias.slice_cols(some);
    part.y = op.y.slice_cols(some);
    run(part, threads);
  }
}

}  // namespace

void run(const Linear& op, int threads) {
  if (eight_bits(op.weight.dtype) && !multiplied_as_int8(op.weight))
    return run_widened(op, threads);
  const Engine engine = engine_for(op.weight.dtype);
  if (engine.tiles && op.x.rows >= many_rows)
    return share_columns(threads, engine, op.weight.rows, op.x.cols,
                         [&](const Interval& columns) { linear_columns(engine, op, columns); });
  share_rows(threads, op.x.rows, rows_at_once(engine, op.x.rows, op.x.cols, threads),
             blocks_of(op.weight.rows), [&](const Interval& rows, const Interval& panels) {
               linear_rows(engine, op, rows, panels);
             });
}

void run(const LinearInputGradient& op, int threads) {
  const Engine engine = standing_engine_for(op.weight.dtype);
  share_columns(threads, engine, op.weight.cols, op.dy.cols, [&](const Interval& columns) {
    static thread_local Scratch weight_scratch, dx_rows, packed;
    const TileSession session(engine);
    const RowsOf weight{rows_of<const std::byte*>(op.weight, {0, op.weight.rows}, weight_scratch),
                        op.weight.cols};
    multiply_rows(engine, op.dy, pack_columns(engine, weight.columns(columns), packed),
                  {.rows = rows_of<std::byte*>(op.dx, {0, op.dx.rows}, dx_rows),
                   .first = columns.begin,
                   .dtype = op.dx.dtype,
                   .accumulate = op.accumulate});
  });
}

namespace {

// dbias += column sums of dy, rows in order.
void add_column_sums(const Tensor& dy, const Tensor& dbias, int threads) {
  parallel_ranges(threads, dy.cols, [&](const Interval& columns) {
    static thread_local Scratch scratch;
    float* row = scratch.get<float>(columns.size());
    float* sums = dbias.row<float>(0) + columns.begin;
    for (int64_t i = 0; i < dy.rows; ++i) {
      read_floats(dy.row_bytes(i) + columns.begin * size_of(dy.dtype), dy.dtype, row,
                  columns.size());
      for (int64_t j = 0; j < columns.size(); ++j) sums[j] += row[j];
    }
  });
}

}  // namespace

void run(const LinearWeightGradient& op, int threads) {
  if (op.dbias.data) add_column_sums(op.dy, op.dbias, threads);
  const Engine engine = standing_engine_for(op.x.dtype);
  parallel_ranges(threads, blocks_of(op.dweight.rows), [&](const Interval& panels) {
    static thread_local Scratch dy_rows, x_rows;
    const TileSession session(engine);
    const Interval all{0, op.dy.rows};
    weight_gradient(engine, {rows_of<const std::byte*>(op.dy, all, dy_rows), op.dy.cols},
                    {rows_of<const std::byte*>(op.x, all, x_rows), op.x.cols}, op.dweight, panels);
  });
}

}  // namespace tandem::cpu
