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

int64_t rows_at_once(const Engine& engine, int64_t rows, int64_t depth, int threads) {
  constexpr int64_t cached_bytes = 1 << 20, fewest = 128, most = 512;
  const int64_t row_bytes = engine.lines(depth) * line_bytes;
  const int64_t cached = std::clamp(cached_bytes / row_bytes, fewest, most);
  // With few rows threads share the weights, with many they share the rows.
  int64_t chunks = std::max<int64_t>((rows + cached - 1) / cached, 1);
  if (rows >= 128 * threads) chunks = std::max<int64_t>(chunks, threads);
  return std::max<int64_t>(blocks_of((rows + chunks - 1) / chunks), 1) * block_rows;
}

namespace {

// Few enough lines of a panel to stay in the first-level cache, beside the strips that stream by.
constexpr int64_t lines_at_once = 16;

void list_rows(const WeightRows& from, const std::byte* (&to)[block_rows]) {
  for (int64_t r = 0; r < block_rows; ++r)
    to[r] = r % 16 < from.count[r / 16] ? from.half[r / 16] + r % 16 * from.row_step : nullptr;
}

}  // namespace

WeightPanel::WeightPanel(const Engine& engine, const WeightRows& rows, const WeightRows& next,
                         int64_t depth)
    : engine_(engine), weights_(rows), depth_(depth) {
  list_rows(rows, rows_);
  list_rows(next, next_);
}

Sums* WeightPanel::sums_for(int64_t x_rows) {
  static thread_local Scratch scratch;
  return scratch.get<Sums>(blocks_of(x_rows));
}

WeightPanel::Step WeightPanel::first_step(int64_t x_rows) const {
  // Packing pays when the panel is used again, and must be where rows or the last line are not
  // whole.
  const int64_t whole_lines = depth_ / engine_.depth_of_line();
  if (x_rows > block_columns || !weights_.whole() || engine_.widen || whole_lines == 0)
    return step_from(0);
  return {{{weights_.half[0], weights_.half[1]}, weights_.row_step, line_bytes}, {0, whole_lines}};
}

WeightPanel::Step WeightPanel::step_from(int64_t line) const {
  static thread_local Scratch scratch;
  std::byte* to = scratch.get<std::byte>(lines_at_once * block_rows * line_bytes);
  const Interval lines{line, std::min(line + lines_at_once, engine_.lines(depth_))};
  const int64_t line_depth = engine_.depth_of_line();
  pack_panel(engine_,
             rows().columns({lines.begin * line_depth, std::min(lines.end * line_depth, depth_)}),
             to);
  return {{{to, to + 16 * line_bytes}, line_bytes, block_rows * line_bytes}, lines};
}

void WeightPanel::multiply(const Step& step, const PackedRows& x, const Interval& rows,
                           Sums& sums) const {
  BlockProduct p{.a = step.panel,
                 .b = x.strips,
                 .strips = rows.size() > 16 ? 2 : 1,
                 .lines = step.lines.size(),
                 .c = sums[0],
                 .accumulate = step.lines.begin > 0};
  p.b.data += rows.begin / 16 * x.strips.strip_step + step.lines.begin * 16 * line_bytes;
  // Each block of rows of x brings its share of what comes after this step.
  const bool more = step.lines.end < depth_ / engine_.depth_of_line();
  const Interval ahead = part(block_rows, blocks_of(x.rows), rows.begin / block_columns);
  p.ahead = std::span(more ? rows_ : next_)
                .subspan(static_cast<size_t>(ahead.begin), static_cast<size_t>(ahead.size()));
  p.ahead_offset = more ? step.lines.end * line_bytes : 0;
  engine_.multiply(p);
}

}  // namespace tandem::cpu
