// Attention of bf16 by products of blocks. Whatever the other rows are, a row goes through the same
// steps: for each block in order 64 scores (those of positions it may not see are -infinity), their
// weights, then the values; for each stretch in order its sums.
#include <cmath>

#include "tandem/device/cpu/attention_few.h"
#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/attention_pipeline.h"
#include "tandem/device/cpu/attention_tile_memory.h"

namespace tandem::cpu {
namespace {

constexpr float ln_2 = 0.693147181f;

// Sums of the first unit of the item, those of the others behind them.
RowSums sums_at(const Attention& op, std::byte* memory, int64_t unit) {
  return row_sums(reinterpret_cast<float*>(memory + unit * bf16_sums_bytes(op.heads)),
                  op.heads.value_dim);
}

// body(unit, its number) for the units of an item.
template <class Body>
void for_units(const AttentionItem& item, const Body& body) {
  int64_t number = 0;
  for (size_t g = 0; g < item.groups.size(); ++g) {
    const GroupRows rows = item.rows(g);
    for (int64_t i = 0; i < rows.count(); i += unit_rows)
      body(Unit{rows, {i, std::min(i + unit_rows, rows.count())}}, number++);
  }
}

// Adds the sums of a stretch. Where a unit sees nothing of it, there are none.
void add_stretch(const Attention& op, const Unit& unit, int64_t stretch, const RowSums& to,
                 const RowSums& sums) {
  if (unit.sees(stretch * stretch_tokens)) join(to, sums, value_lines(op.heads.value_dim));
}

void write(const Attention& op, const Unit& unit, const RowSums& sums) {
  divide(sums, value_lines(op.heads.value_dim));
  store_unit(unit, sums.values, op.heads.value_dim, op.out);
  for (int64_t lane = 0; lane < unit.count() && !op.logsumexp.empty(); ++lane)
    op.logsumexp.row<float>(unit.tensor_row(lane))[unit.head(lane)] =
        ln_2 * (sums.most[lane] + std::log2(sums.weight[lane]));
}

}  // namespace

int64_t bf16_sums_bytes(const AttentionHeads& heads) {
  return row_sums_floats(heads.value_dim) * static_cast<int64_t>(sizeof(float));
}

namespace {

// Sums of all stretches of an item; `way` goes through the blocks of one.
template <class Way>
void sum_stretches(const Attention& op, const AttentionItem& item,
                   std::span<AttentionPipeline::Row> rows, std::byte* sums, std::byte* stretch_sums,
                   Way&& way) {
  for (int64_t stretch = item.stretches.begin; stretch < item.stretches.end; ++stretch) {
    const bool more = stretch > item.stretches.begin;
    int64_t unit = 0;
    for (AttentionPipeline::Row& row : rows)
      row.sums = sums_at(op, more ? stretch_sums : sums, unit++);
    way.run(stretch);
    unit = 0;
    for (const AttentionPipeline::Row& row : rows)
      if (more) add_stretch(op, row.unit, stretch, sums_at(op, sums, unit++), row.sums);
  }
}

}  // namespace

void attention_bf16(const Attention& op, const Engine& engine, const AttentionItem& item,
                    std::byte* shared_sums) {
  static thread_local TileMemory memory;
  static thread_local std::vector<AttentionPipeline::Row> rows;
  const int64_t units = units_of(item);
  const int64_t query_bytes = engine.lines(op.heads.head_dim) * strip_line_bytes;
  std::byte *queries = nullptr, *stretch_sums = nullptr, *sums = nullptr;
  memory.lay_out([&](auto& take) {
    take(queries, units * query_bytes);
    take(stretch_sums, units * bf16_sums_bytes(op.heads));
    take(sums, units * bf16_sums_bytes(op.heads));
  });
  if (!item.whole()) sums = shared_sums + item.first_unit * bf16_sums_bytes(op.heads);

  rows.clear();
  for_units(item, [&](const Unit& unit, int64_t) { rows.push_back({unit, nullptr, {}}); });
  if (AttentionFew::does(op, engine, item)) {
    sum_stretches(op, item, rows, sums, stretch_sums, AttentionFew(op, item, rows));
  } else {
    const TileSession session(engine);
    for (AttentionPipeline::Row& row : rows) {
      pack_unit(engine, row.unit, op.q, op.heads.head_dim, queries);
      row.queries = std::exchange(queries, queries + query_bytes);
    }
    sum_stretches(op, item, rows, sums, stretch_sums, AttentionPipeline(op, engine, item, rows));
  }
  if (!item.whole()) return;
  for_units(item, [&](const Unit& unit, int64_t i) { write(op, unit, sums_at(op, sums, i)); });
}

void join_stretches(const Attention& op, std::span<const AttentionItem> items, std::byte* sums) {
  const AttentionItem& first = items[0];
  if (first.whole() || first.stretches.begin > 0) return;
  for_units(first, [&](const Unit& unit, int64_t i) {
    const RowSums all = sums_at(op, sums, first.first_unit + i);
    for (int64_t s = 1; s < stretches_of(first.key_count()); ++s)
      add_stretch(op, unit, s, all,
                  sums_at(op, sums, items[static_cast<size_t>(s)].first_unit + i));
    write(op, unit, all);
  });
}

}  // namespace tandem::cpu
