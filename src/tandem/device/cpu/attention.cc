// Attention by blocks of keys and values with an online softmax (Dao et al., "FlashAttention",
// 2022).
#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {
namespace {

void run_bf16(const Attention& op, const Engine& engine, std::span<const AttentionItem> items,
              int threads) {
  static thread_local Scratch scratch;
  int64_t units = 0;
  for (const AttentionItem& item : items)
    if (!item.whole()) units = item.first_unit + units_of(item);
  auto* const sums = scratch.get<std::byte>(units * bf16_sums_bytes(op.heads));
  const auto from = [&](int64_t i) { return items.subspan(static_cast<size_t>(i)); };
  const auto count = static_cast<int64_t>(items.size());
  parallel_items(threads, count, [&](int64_t i) { attention_bf16(op, engine, from(i)[0], sums); });
  if (units > 0)
    parallel_items(threads, count, [&](int64_t i) { join_stretches(op, from(i), sums); });
}

}  // namespace

void run(const Attention& op, int threads) {
  const DType dtype = op.q.dtype;
  TANDEM_CHECK(op.keys.dtype == dtype && op.values.dtype == dtype && op.out.dtype == dtype,
               "attention of {} with keys of {}", dtype_name(dtype), dtype_name(op.keys.dtype));
  TANDEM_CHECK(op.heads.scale > 0, "attention scaled by {}", op.heads.scale);
  static thread_local std::vector<HeadGroup> groups;
  static thread_local std::vector<AttentionItem> shared_items;
  const Engine engine = standing_engine_for(dtype);
  head_groups(op.heads, groups);
  attention_items(op.heads, op.sequences, groups, threads, engine.pairs, shared_items);
  const std::span<const AttentionItem> items = shared_items;  // of this thread, for all of them
  if (engine.pairs) return run_bf16(op, engine, items, threads);
  parallel_items(threads, static_cast<int64_t>(items.size()),
                 [&](int64_t i) { attention_lanes(op, items[static_cast<size_t>(i)]); });
}

}  // namespace tandem::cpu
