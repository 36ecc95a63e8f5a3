#include "tandem/device/cpu/attention_work.h"

#include <algorithm>

namespace tandem::cpu {

void head_groups(const AttentionHeads& heads, std::vector<HeadGroup>& groups) {
  groups.clear();
  for (int64_t head = 0; head < heads.count(); ++head) {
    const int64_t kv_head = heads.kv_head[static_cast<size_t>(head)];
    if (groups.empty() || groups.back().kv_head != kv_head) {
      TANDEM_CHECK(groups.empty() || groups.back().kv_head < kv_head, "K/V heads out of order");
      groups.push_back({kv_head, {head, head}});
    }
    ++groups.back().heads.end;
  }
}

namespace {
constexpr int64_t rows_at_once = 192;
}

int64_t queries_at_once(const HeadGroup& group) {
  return std::max<int64_t>(1, rows_at_once / group.size());
}

void attention_items(std::span<const AttentionSequence> sequences,
                     std::span<const HeadGroup> groups, int threads,
                     std::vector<AttentionItem>& items) {
  int64_t widest = 1, tiles = 0, tile = rows_at_once;
  for (const HeadGroup& group : groups) {
    widest = std::max(widest, group.size());
    tile = std::min(tile, queries_at_once(group));
  }
  for (const AttentionSequence& s : sequences) tiles += (s.query_rows.size() + tile - 1) / tile;
  // Every thread should get several items, whatever their sizes.
  const int64_t wanted = threads == 1 || tiles == 0 ? 1 : (4 * threads + tiles - 1) / tiles;
  const size_t cut =
      (groups.size() + static_cast<size_t>(wanted) - 1) / static_cast<size_t>(wanted);

  items.clear();
  for (const AttentionSequence& s : sequences) {
    const int64_t queries = std::min(tile, std::max<int64_t>(1, s.query_rows.size()));
    const size_t fitting =
        static_cast<size_t>(std::max<int64_t>(1, rows_at_once / (queries * widest)));
    const size_t step = std::max<size_t>(1, std::min(cut, fitting));
    // The last queries see the most keys: they go first.
    for (int64_t end = s.query_rows.size(); end > 0; end -= std::min(end, tile)) {
      for (size_t g = 0; g < groups.size(); g += step) {
        items.push_back({&s,
                         groups.subspan(g, std::min(step, groups.size() - g)),
                         {std::max<int64_t>(0, end - tile), end}});
      }
    }
  }
}

}  // namespace tandem::cpu
