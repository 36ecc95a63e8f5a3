// Attention by blocks of keys and values with an online softmax (Dao et al., "FlashAttention",
// 2022).
//
// A row is one query of one head; up to 32 rows that share keys and values are a unit. Whatever the
// other rows are, a row goes through the same steps: for each block in order 64 scores (those of
// positions it may not see are -infinity), their weights, then the values; for each stretch in
// order its sums.
#include <cmath>

#include "tandem/device/cpu/attention_pipeline.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {
namespace {

constexpr float ln_2 = 0.693147181f;

int64_t sums_bytes(const Attention& op) {
  return row_sums_floats(op.heads.value_dim) * static_cast<int64_t>(sizeof(float));
}
// Sums of the first unit of the item, those of the others behind them.
RowSums sums_at(const Attention& op, std::byte* memory, int64_t unit) {
  return row_sums(reinterpret_cast<float*>(memory + unit * sums_bytes(op)), op.heads.value_dim);
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

void write(const Attention& op, const Unit& unit, const RowSums& sums) {
  divide(sums, value_lines(op.heads.value_dim));
  store_unit(unit, sums.values, op.heads.value_dim, op.out);
  for (int64_t lane = 0; lane < unit.count() && !op.logsumexp.empty(); ++lane)
    op.logsumexp.row<float>(unit.tensor_row(lane))[unit.head(lane)] =
        ln_2 * (sums.most[lane] + std::log2(sums.weight[lane]));
}

// Writes what comes out if the item has all stretches; else its sums are left in `sums`.
void attention_item(const Attention& op, const Engine& engine, const AttentionItem& item,
                    std::byte* sums) {
  static thread_local Scratch scratch;
  static thread_local std::vector<AttentionPipeline::Row> rows;
  const int64_t units = units_of(item), lines = value_lines(op.heads.value_dim);
  const int64_t query_bytes = engine.lines(op.heads.head_dim) * strip_line_bytes;
  const int64_t pipeline_bytes = AttentionPipeline::scratch_bytes(engine, op.heads);
  Carver carver(
      scratch.get<std::byte>(pipeline_bytes + units * (query_bytes + 2 * sums_bytes(op))));
  std::byte* const pipeline_memory = carver.take(pipeline_bytes);
  std::byte* const queries = carver.take(units * query_bytes);
  std::byte* const stretch_sums = carver.take(units * sums_bytes(op));
  if (item.whole()) sums = carver.take(units * sums_bytes(op));

  const TileSession session(engine);
  rows.clear();
  for_units(item, [&](const Unit& unit, int64_t number) {
    std::byte* strip = queries + number * query_bytes;
    pack_unit(engine, unit, op.q, op.heads.head_dim, strip);
    rows.push_back({unit, strip, {}});
  });
  AttentionPipeline pipeline(op, engine, item, rows, pipeline_memory);
  for (int64_t stretch = item.stretches.begin; stretch < item.stretches.end; ++stretch) {
    const bool more = stretch > item.stretches.begin;
    for (int64_t i = 0; i < units; ++i)
      rows[static_cast<size_t>(i)].sums = sums_at(op, more ? stretch_sums : sums, i);
    pipeline.run(stretch);
    for (int64_t i = 0; i < units && more; ++i)
      join(sums_at(op, sums, i), rows[static_cast<size_t>(i)].sums, lines);
  }
  if (!item.whole()) return;
  for_units(item, [&](const Unit& unit, int64_t i) { write(op, unit, sums_at(op, sums, i)); });
}

// Items of one stretch each stand beside each other; the first of them goes on with all.
void join_items(const Attention& op, std::span<const AttentionItem> items, std::byte* sums) {
  const AttentionItem& first = items[0];
  if (first.whole() || first.stretches.begin > 0) return;
  const int64_t lines = value_lines(op.heads.value_dim);
  for_units(first, [&](const Unit& unit, int64_t i) {
    const RowSums all = sums_at(op, sums, first.first_unit + i);
    for (int64_t s = 1; s < stretches_of(first.key_count()); ++s)
      join(all, sums_at(op, sums, items[static_cast<size_t>(s)].first_unit + i), lines);
    write(op, unit, all);
  });
}

}  // namespace

void run(const Attention& op, int threads) {
  const DType dtype = op.q.dtype;
  TANDEM_CHECK(op.keys.dtype == dtype && op.values.dtype == dtype && op.out.dtype == dtype,
               "attention of {} with keys of {}", dtype_name(dtype), dtype_name(op.keys.dtype));
  TANDEM_CHECK(op.heads.scale > 0, "attention scaled by {}", op.heads.scale);
  static thread_local std::vector<HeadGroup> groups;
  static thread_local std::vector<AttentionItem> shared_items;
  static thread_local Scratch shared_sums;
  head_groups(op.heads, groups);
  attention_items(op.heads, op.sequences, groups, threads, shared_items);
  const std::span<const AttentionItem> items = shared_items;  // of this thread, for all of them
  int64_t units = 0;
  for (const AttentionItem& item : items)
    if (!item.whole()) units = item.first_unit + units_of(item);
  auto* const sums = shared_sums.get<std::byte>(units * sums_bytes(op));
  const Engine engine = engine_for(dtype);
  parallel_items(threads, static_cast<int64_t>(items.size()), [&](int64_t i) {
    const AttentionItem& item = items[static_cast<size_t>(i)];
    attention_item(op, engine, item, sums + item.first_unit * sums_bytes(op));
  });
  if (units == 0) return;
  parallel_items(threads, static_cast<int64_t>(items.size()),
                 [&](int64_t i) { join_items(op, items.subspan(static_cast<size_t>(i)), sums); });
}

}  // namespace tandem::cpu
