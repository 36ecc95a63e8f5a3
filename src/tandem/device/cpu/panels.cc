#include "tandem/device/cpu/panels.h"

#include <algorithm>

namespace tandem::cpu {

WeightRows weight_rows(const Tensor& weight, int64_t panel) {
  WeightRows rows{.row_step = weight.stride * size_of(weight.dtype)};
  for (int64_t h = 0; h < 2; ++h) {
    const int64_t first = panel * block_rows + h * 16;
    rows.count[h] = std::clamp<int64_t>(weight.rows - first, 0, 16);
    rows.half[h] = rows.count[h] > 0 ? weight.row_bytes(first) : nullptr;
  }
  return rows;
}

WeightRows weight_rows(const Tensor& gate, const Tensor& up, int64_t panel) {
  TANDEM_CHECK(gate.stride == up.stride, "gate and up lie {} and {} apart", gate.stride, up.stride);
  WeightRows rows{.row_step = up.stride * size_of(up.dtype)};
  const int64_t first = panel * 16;
  rows.count[0] = rows.count[1] = std::clamp<int64_t>(up.rows - first, 0, 16);
  if (rows.count[0] > 0) {
    rows.half[0] = gate.row_bytes(first);
    rows.half[1] = up.row_bytes(first);
  }
  return rows;
}

int64_t packed_bytes(const Engine& engine, int64_t rows, int64_t depth) {
  return (rows + 15) / 16 * engine.lines(depth) * 16 * line_bytes;
}

PackedRows pack_rows(const Engine& engine, const RowsOf& from, std::byte* to) {
  const int64_t strip_step = engine.lines(from.cols) * 16 * line_bytes;
  for (int64_t first = 0; first < from.count(); first += 16)
    pack_strip(engine, from.part({first, std::min(first + 16, from.count())}),
               to + first / 16 * strip_step);
  return {{to, strip_step}, from.count(), from.cols};
}

int64_t rows_at_once(int64_t rows, int threads) {
  constexpr int64_t most = 256;
  // With few rows threads share the weights, with many they share the rows.
  int64_t chunks = std::max<int64_t>((rows + most - 1) / most, 1);
  if (rows >= 128 * threads) chunks = std::max<int64_t>(chunks, threads);
  return std::max<int64_t>(blocks_of((rows + chunks - 1) / chunks), 1) * block_rows;
}

WeightPanel::WeightPanel(const Engine& engine, const WeightRows& rows, int64_t depth)
    : engine_(&engine), weights_(rows), depth_(depth) {
  for (int64_t r = 0; r < block_rows; ++r)
    rows_[r] = r % 16 < rows.count[r / 16] ? rows.half[r / 16] + r % 16 * rows.row_step : nullptr;
}

bool WeightPanel::in_place(int64_t x_rows) const {
  // Packing pays when the panel is used again, and must be where rows are missing.
  return x_rows <= block_columns && weights_.whole() && !engine_->widen;
}

Interval WeightPanel::lines_from(int64_t line, bool in_place) const {
  const int64_t whole = depth_ / engine_->depth_of_line(), last = engine_->lines(depth_);
  if (in_place && line < whole) return {line, whole};
  return {line, std::min(line + lines_at_once, last)};
}

void WeightPanel::prepare(const Interval& lines, bool in_place) {
  static thread_local Scratch scratch;
  lines_ = lines;
  const int64_t line_depth = engine_->depth_of_line();
  if (in_place && lines.end * line_depth <= depth_) {
    const int64_t offset = lines.begin * line_bytes;
    ready_ = {
        {weights_.half[0] + offset, weights_.half[1] + offset}, weights_.row_step, line_bytes};
    return;
  }
  std::byte* to = scratch.get<std::byte>(lines_at_once * block_rows * line_bytes);
  const Interval columns{lines.begin * line_depth, std::min(lines.end * line_depth, depth_)};
  pack_panel(*engine_, RowsOf{rows_, depth_}.columns(columns), to);
  ready_ = {{to, to + 16 * line_bytes}, line_bytes, block_rows * line_bytes};
}

void WeightPanel::multiply(const PackedRows& x, const Interval& rows, const WeightPanel* next,
                           Sums& sums) const {
  BlockProduct p{.a = ready_,
                 .b = x.strips,
                 .strips = rows.size() > 16 ? 2 : 1,
                 .lines = lines_.size(),
                 .c = sums[0],
                 .accumulate = lines_.begin > 0};
  p.b.data += rows.begin / 16 * x.strips.strip_step + lines_.begin * 16 * line_bytes;
  // Each block of rows of x brings its share of the lines that the next panel will need.
  const Interval ahead = part(block_rows, blocks_of(x.rows), rows.begin / block_columns);
  p.ahead = std::span(next->rows_)
                .subspan(static_cast<size_t>(ahead.begin), static_cast<size_t>(ahead.size()));
  p.ahead_offset = lines_.begin * line_bytes;
  engine_->multiply(p);
}

Sums* sums_scratch(int64_t blocks) {
  static thread_local Scratch scratch;
  return scratch.get<Sums>(blocks);
}

}  // namespace tandem::cpu
