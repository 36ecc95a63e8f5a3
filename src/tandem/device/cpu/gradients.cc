#include "tandem/device/cpu/gradients.h"

#include <algorithm>
#include <cstring>

namespace tandem::cpu {
namespace {

// All rows of a term as panels.
PackedPanels pack_panels(const Engine& engine, const RowsOf& rows, std::byte* to) {
  const PackedPanels panels{to, engine.lines(rows.cols)};
  for (int64_t i = 0; i < blocks_of(rows.count()); ++i)
    pack_panel(engine, rows.part({i * block_rows, std::min((i + 1) * block_rows, rows.count())}),
               to + i * panels.bytes_each());
  return panels;
}

RowsOf rows_of(const Tensor& t, Scratch& scratch) {
  const auto list = pointers<const std::byte*>(scratch, t.rows);
  for (int64_t i = 0; i < t.rows; ++i) list[static_cast<size_t>(i)] = t.row_bytes(i);
  return {list, t.cols};
}

}  // namespace

InputGradient::InputGradient(const Engine& engine, std::span<const GradientTerm> terms)
    : engine_(engine), terms_(terms), rows_(terms[0].dy.count()) {
  static thread_local Scratch scratch[most_terms];
  TANDEM_CHECK(terms.size() <= most_terms, "{} terms", terms.size());
  for (size_t t = 0; t < terms.size(); ++t) {
    const int64_t lines = blocks_of(rows_) * block_rows * engine.lines(terms[t].dy.cols);
    panels_[t] = pack_panels(engine, terms[t].dy, scratch[t].get<std::byte>(lines * line_bytes));
  }
}

void InputGradient::pack_weights(const Interval& blocks) {
  static thread_local Scratch scratch[most_terms], row_scratch;
  for (size_t t = 0; t < terms_.size(); ++t)
    strips_[t] =
        pack_columns(engine_, rows_of(terms_[t].weight, row_scratch).columns(columns_of(blocks)),
                     scratch[t])
            .strips;
}

// A few lines of depth for all blocks, then the next ones: so that a panel's lines stay in the
// first-level cache while the strips go by.
void InputGradient::multiply(const Interval& blocks, Sums* sums) const {
  for (size_t t = 0; t < terms_.size(); ++t)
    for (int64_t line = 0; line < panels_[t].lines; line += lines_at_once) {
      const Interval lines{line, std::min(line + lines_at_once, panels_[t].lines)};
      for (int64_t i = 0; i < blocks_of(rows_); ++i)
        for (int64_t j = 0; j < blocks.size(); ++j)
          engine_.multiply({.a = panels_[t].at(i, lines.begin),
                            .b = strips_[t].at(j, lines.begin),
                            .columns = static_cast<int>(
                                columns_of(Interval{j, j + 1}.shifted(blocks.begin)).size()),
                            .lines = lines.size(),
                            .c = sums[i * most_blocks + j][0],
                            .accumulate = t > 0 || line > 0});
    }
}

void input_gradient(const Engine& engine, std::span<const GradientTerm> terms,
                    const Interval& blocks, const Target& dx) {
  InputGradient(engine, terms)
      .blocks(blocks, [&](const Sums& sums, const Interval& rows, const Interval& columns) {
        Target to = dx;
        to.rows =
            dx.rows.subspan(static_cast<size_t>(rows.begin), static_cast<size_t>(rows.size()));
        to.first = columns.begin;
        to.cols = columns.size();
        store_block(sums, to);
      });
}

namespace {

// Adds a product to a block of dweight: in place where it is whole.
void add_block(const Engine& engine, BlockProduct p, const Tensor& dweight, int64_t row,
               int64_t column) {
  float* const at = dweight.row<float>(row) + column;
  const int64_t rows = std::min(block_rows, dweight.rows - row);
  const int64_t columns = std::min(block_columns, dweight.cols - column);
  p.columns = static_cast<int>(columns);
  p.accumulate = true;
  if (rows == block_rows && columns == block_columns) {
    p.c = at;
    p.c_stride = dweight.stride;
    return engine.multiply(p);
  }
  alignas(64) Sums sums = {};
  const auto bytes = static_cast<size_t>(columns) * sizeof(float);
  for (int64_t i = 0; i < rows; ++i) std::memcpy(sums[i], at + i * dweight.stride, bytes);
  p.c = sums[0];
  engine.multiply(p);
  for (int64_t i = 0; i < rows; ++i) std::memcpy(at + i * dweight.stride, sums[i], bytes);
}

// For some rows of dy and x, few enough that their strips stay in the second-level cache.
void add_depth(const Engine& engine, const RowsOf& dy, const RowsOf& x, const Tensor& dweight,
               const Interval& panels) {
  static thread_local Scratch panel_scratch, strip_scratch;
  constexpr int64_t columns_at_once = 512;
  PackedPanels packed{nullptr, engine.lines(dy.count())};
  std::byte* to = panel_scratch.get<std::byte>(panels.size() * packed.bytes_each());
  packed.data = to;
  for (int64_t i = panels.begin; i < panels.end; ++i, to += packed.bytes_each())
    pack_panel_transposed(
        engine, dy.columns({i * block_rows, std::min((i + 1) * block_rows, dweight.rows)}), to);
  for (int64_t first = 0; first < dweight.cols; first += columns_at_once) {
    const Interval columns{first, std::min(first + columns_at_once, dweight.cols)};
    const Strips strips = pack_columns(engine, x.columns(columns), strip_scratch).strips;
    for (int64_t i = 0; i < panels.size(); ++i)
      for (int64_t line = 0; line < packed.lines; line += lines_at_once)
        for (int64_t j = 0; j < blocks_of(columns.size()); ++j)
          add_block(engine,
                    {.a = packed.at(i, line),
                     .b = strips.at(j, line),
                     .lines = std::min(lines_at_once, packed.lines - line)},
                    dweight, (panels.begin + i) * block_rows, first + j * block_columns);
  }
}

}  // namespace

void weight_gradient(const Engine& engine, const RowsOf& dy, const RowsOf& x, const Tensor& dweight,
                     const Interval& panels) {
  constexpr int64_t depth_at_once = 1024, panels_at_once = 64;
  for (int64_t first = panels.begin; first < panels.end; first += panels_at_once)
    for (int64_t begin = 0; begin < dy.count(); begin += depth_at_once) {
      const Interval depth{begin, std::min(begin + depth_at_once, dy.count())};
      add_depth(engine, dy.part(depth), x.part(depth), dweight,
                {first, std::min(first + panels_at_once, panels.end)});
    }
}

}  // namespace tandem::cpu
