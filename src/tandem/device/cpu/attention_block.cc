#include "tandem/device/cpu/attention_block.h"

namespace tandem::cpu {
namespace {

// Pointers to some positions.
class Rows {
 public:
  Rows(const HeadBlock& block, Interval some) {
    for (int64_t j = some.begin; j < some.end; ++j) rows_[count_++] = block.row(j);
  }
  RowsOf columns(int64_t count, int64_t first = 0) const { return {{rows_, count_}, count, first}; }

 private:
  const std::byte* rows_[kv_block_tokens];
  size_t count_ = 0;
};

}  // namespace

BlockPanels block_panels(const Engine& engine, const HeadBlock& block, bool in_place,
                         std::byte* memory) {
  const Tensor& t = *block.tensor;
  const int64_t cols = block.cols.size(), row_step = t.stride * size_of(t.dtype);
  in_place = in_place && !engine.widen && cols % engine.depth_of_line() == 0;
  BlockPanels panels{.count = block.count(), .lines = engine.lines(cols)};
  for (int64_t first = 0; first < block.count(); first += block_rows) {
    Panel& panel = panels.half[first / block_rows];
    const Interval some{first, std::min(first + block_rows, block.count())};
    if (in_place && some.size() == block_rows) {
      panel = {{block.row(first), block.row(first + 16)}, row_step, line_bytes};
      continue;
    }
    std::byte* to = memory + first * line_bytes * panels.lines;
    pack_panel(engine, Rows(block, some).columns(cols), to);
    panel = packed_panel(to);
  }
  return panels;
}

TurnedPanels turned_panels(const Engine& engine, const HeadBlock& block, std::byte* memory) {
  return {memory, block.cols.size(), engine.lines(block.count())};
}

void turn(const Engine& engine, const HeadBlock& block, const TurnedPanels& panels, int64_t panel,
          LinesAhead& ahead, int64_t lines) {
  const int64_t first = panel * block_rows;
  if (engine.pairs && block.count() % 32 == 0 && panels.count - first >= block_rows) {
    const Tensor& t = *block.tensor;
    for (int64_t line = 0; line < panels.lines; ++line)
      turn_bf16(block.row(32 * line) + first * 2, t.stride * 2,
                panels.at(panel) + line * block_rows * line_bytes, ahead,
                part(lines, panels.lines, line).size());
    return;
  }
  ahead.bring(lines);
  const Rows rows(block, {0, block.count()});
  pack_panel_transposed(engine, rows.columns(std::min(block_rows, panels.count - first), first),
                        panels.at(panel));
}

}  // namespace tandem::cpu
