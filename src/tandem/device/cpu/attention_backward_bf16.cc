// The gradient of attention of bf16 by products of blocks. A block's weights P and the gradients dS
// of its scores are made for all units of rows first; then what is summed over rows, dvalues = P^T
// dout and dkeys = dS^T q, runs over all of them at once.
#include <cmath>

#include "tandem/device/cpu/attention_block.h"
#include "tandem/device/cpu/attention_gradient.h"
#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/attention_tile_memory.h"
#include "tandem/device/cpu/attention_unit.h"
#include "tandem/device/cpu/bf16.h"

namespace tandem::cpu {
namespace {

constexpr int64_t unit_panel_bytes = kv_block_tokens * line_bytes;

class Bf16Gradient {
 public:
  Bf16Gradient(const AttentionBackward& op, const Engine& engine, const GroupRows& rows);
  void run();

 private:
  struct RowValues {
    alignas(line_bytes) RowLine logsumexp, delta;
  };

  Unit unit(int64_t u) const {
    return {rows_, {u * unit_rows, std::min((u + 1) * unit_rows, rows_.count())}};
  }
  void read(int64_t u);
  void block(int64_t position);
  void block_of_unit(int64_t u, int64_t position);
  // Rows of `to` += panels^T strips, over the units from `first` on.
  void add(const std::byte* panels, const Strips& strips, int64_t first, int64_t dim,
           const Tensor& to, const Interval& where);
  void multiply(const BlockPanels& panels, const std::byte* strip, BlockScores& to) const;
  HeadBlock head_block(const Tensor& t, int64_t dim, const Interval& where) const {
    const int64_t head = rows_.group->kv_head;
    return {&t, where, {head * dim, (head + 1) * dim}};
  }
  // All rows, as depth.
  Strips turned_rows(const Tensor& t, int64_t dim, std::byte* to) const;

  const AttentionBackward& op_;
  const Engine& engine_;
  const GroupRows& rows_;
  const int64_t head_dim_, value_dim_, units_;
  // Of the units, one behind the other.
  std::byte *queries_, *douts_;    // strips, features as depth
  std::byte *weights_, *dscores_;  // panels of the block, rows as depth
  RowLine* dqueries_;
  RowValues* values_of_rows_;
  Strips turned_queries_, turned_douts_;
  // Of the block.
  BlockPanels keys_, values_;
  TurnedPanels turned_keys_;
  BlockScores *scores_, *dweights_, *mask_;
  std::byte *packed_keys_, *packed_values_, *packed_turned_, *dscores_strip_;
};

Bf16Gradient::Bf16Gradient(const AttentionBackward& op, const Engine& engine, const GroupRows& rows)
    : op_(op),
      engine_(engine),
      rows_(rows),
      head_dim_(op.heads.head_dim),
      value_dim_(op.heads.value_dim),
      units_((rows.count() + unit_rows - 1) / unit_rows) {
  static thread_local TileMemory memory;
  const auto strip_bytes = [&](int64_t dim) { return engine.lines(dim) * strip_line_bytes; };
  const auto turned_strip_bytes = [&](int64_t dim) {
    return value_lines(dim) / block_columns * units_ * strip_line_bytes;
  };
  memory.lay_out([&](auto& take) {
    take(queries_, units_ * strip_bytes(head_dim_));
    take(douts_, units_ * strip_bytes(value_dim_));
    take(weights_, units_ * unit_panel_bytes);
    take(dscores_, units_ * unit_panel_bytes);
    take(dqueries_, units_ * value_lines(head_dim_) * static_cast<int64_t>(sizeof(RowLine)));
    take(values_of_rows_, units_ * static_cast<int64_t>(sizeof(RowValues)));
    take(turned_queries_.data, turned_strip_bytes(head_dim_));
    take(turned_douts_.data, turned_strip_bytes(value_dim_));
    take(scores_, sizeof(BlockScores));
    take(dweights_, sizeof(BlockScores));
    take(mask_, sizeof(BlockScores));
    take(packed_keys_, panels_bytes(engine, head_dim_));
    take(packed_values_, panels_bytes(engine, value_dim_));
    take(packed_turned_, turned_bytes(engine, head_dim_));
    take(dscores_strip_, engine.dwords(kv_block_tokens) * strip_dword_bytes);
  });
}

void Bf16Gradient::run() {
  for (int64_t u = 0; u < units_; ++u) read(u);
  turned_queries_ = turned_rows(op_.q, head_dim_, turned_queries_.data);
  turned_douts_ = turned_rows(op_.dout, value_dim_, turned_douts_.data);
  for (int64_t position = 0; position < rows_.key_count(); position += kv_block_tokens)
    block(position);
  for (int64_t u = 0; u < units_; ++u)
    store_unit(unit(u), dqueries_ + u * value_lines(head_dim_), head_dim_, op_.dq);
}

void Bf16Gradient::read(int64_t u) {
  const Unit rows = unit(u);
  const auto strip = [&](const Tensor& t, int64_t dim, std::byte* all) {
    const int64_t bytes = engine_.lines(dim) * strip_line_bytes;
    // A strip of few rows is packed by half, and read whole.
    std::fill_n(all + u * bytes, rows.count() > 16 ? 0 : bytes, std::byte{});
    pack_unit(engine_, rows, t, dim, all + u * bytes);
  };
  strip(op_.q, head_dim_, queries_);
  strip(op_.dout, value_dim_, douts_);
  RowValues& to = values_of_rows_[u];
  to = {};
  Unit::Pointers outs, douts;
  rows.pointers(op_.out, value_dim_, outs);
  rows.pointers(op_.dout, value_dim_, douts);
  for (int64_t lane = 0; lane < rows.count(); ++lane) {
    const auto* out = reinterpret_cast<const bfloat16*>(outs[lane]);
    const auto* dout = reinterpret_cast<const bfloat16*>(douts[lane]);
    for (int64_t i = 0; i < value_dim_; ++i) to.delta[lane] += to_float(out[i]) * to_float(dout[i]);
    const float* logsumexp = op_.logsumexp.row<float>(rows.tensor_row(lane));
    to.logsumexp[lane] = log2_e * logsumexp[rows.head(lane)];
  }
}

Strips Bf16Gradient::turned_rows(const Tensor& t, int64_t dim, std::byte* to) const {
  static thread_local Scratch scratch;
  auto** pointers = scratch.get<std::byte*>(units_ * unit_rows);
  int64_t count = 0;
  for (int64_t u = 0; u < units_; ++u) {
    Unit::Pointers rows;
    for (std::byte* row : unit(u).pointers(t, dim, rows)) pointers[count++] = row;
  }
  const Strips strips{to, value_lines(dim) / block_columns, units_};
  pack_strips_transposed(engine_, {{pointers, static_cast<size_t>(count)}, dim}, strips);
  return strips;
}

void Bf16Gradient::block(int64_t position) {
  const Interval where = rows_.block(position);
  const HeadBlock keys = head_block(op_.keys, head_dim_, where);
  keys_ = block_panels(engine_, keys, false, packed_keys_);
  values_ = block_panels(engine_, head_block(op_.values, value_dim_, where), false, packed_values_);
  turned_keys_ = turned_panels(engine_, keys, packed_turned_);
  LinesAhead none;
  for (int64_t panel = 0; panel * block_rows < turned_keys_.count; ++panel)
    turn(engine_, keys, turned_keys_, panel, none, 0);
  int64_t first = 0;
  while (!unit(first).sees(position)) ++first;
  for (int64_t u = first; u < units_; ++u) block_of_unit(u, position);
  add(weights_, turned_douts_, first, value_dim_, op_.dvalues, where);
  add(dscores_, turned_queries_, first, head_dim_, op_.dkeys, where);
}

void Bf16Gradient::multiply(const BlockPanels& panels, const std::byte* strip,
                            BlockScores& to) const {
  for (int64_t first = 0; first < panels.count; first += block_rows)
    engine_.multiply({.a = panels.half[first / block_rows],
                      .rows = panels.count - first > 16 ? 32 : 16,
                      .b = strip,
                      .lines = panels.lines,
                      .c = to[first]});
}

void Bf16Gradient::block_of_unit(int64_t u, int64_t position) {
  const Unit rows = unit(u);
  multiply(keys_, queries_ + u * engine_.lines(head_dim_) * strip_line_bytes, *scores_);
  multiply(values_, douts_ + u * engine_.lines(value_dim_) * strip_line_bytes, *dweights_);
  alignas(line_bytes) RowLine seen;
  rows.seen(position, seen);
  std::fill(seen + rows.count(), seen + unit_rows, 0.0f);
  if (op_.dropout.active()) rows.mask(op_.dropout, op_.heads.first_head, position, *mask_);
  gradient_step({.scores = *scores_,
                 .dweights = *dweights_,
                 .positions = keys_.count,
                 .seen = seen,
                 .logsumexp = values_of_rows_[u].logsumexp,
                 .delta = values_of_rows_[u].delta,
                 .scale = op_.heads.scale * log2_e,
                 .mask = op_.dropout.active() ? mask_ : nullptr,
                 .dscore_scale = op_.heads.scale,
                 .weights = weights_ + u * unit_panel_bytes,
                 .dscores = dscores_ + u * unit_panel_bytes,
                 .dscores_strip = dscores_strip_});
  for (int64_t panel = 0; panel * block_rows < turned_keys_.count; ++panel)
    engine_.multiply({.a = packed_panel(turned_keys_.at(panel)),
                      .b = dscores_strip_,
                      .lines = turned_keys_.lines,
                      .c = dqueries_[u * value_lines(head_dim_) + panel * block_rows],
                      .accumulate = position > 0});
}

void Bf16Gradient::add(const std::byte* panels, const Strips& strips, int64_t first, int64_t dim,
                       const Tensor& to, const Interval& where) {
  const int64_t begin = rows_.group->kv_head * dim;
  for (int64_t row = 0; row < where.size(); row += block_rows) {
    const std::byte* from = panels + first * unit_panel_bytes + row * line_bytes;
    const int64_t rows = std::min(block_rows, where.size() - row);
    for (int64_t col = 0; col < dim; col += block_columns) {
      alignas(line_bytes) float sums[block_rows][block_columns];
      const bool whole = rows == block_rows && dim - col >= block_columns;
      float* const at = to.row<float>(where.begin + row) + begin + col;
      engine_.multiply({.a = {{from, from + 16 * line_bytes}, line_bytes, unit_panel_bytes},
                        .b = strips.at(col / block_columns, first),
                        .lines = units_ - first,
                        .c = whole ? at : sums[0],
                        .c_stride = whole ? to.stride : block_columns,
                        .accumulate = whole});
      if (whole) continue;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < std::min(block_columns, dim - col); ++j)
          at[i * to.stride + j] += sums[i][j];
    }
  }
}

}  // namespace

void attention_backward_bf16(const AttentionBackward& op, const Engine& engine,
                             const GroupRows& rows) {
  const TileSession session(engine);
  Bf16Gradient(op, engine, rows).run();
}

}  // namespace tandem::cpu
