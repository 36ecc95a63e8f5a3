#include "tandem/device/cpu/attention_work.h"

#include <algorithm>

namespace tandem::cpu {

std::vector<HeadGroup> head_groups(const AttentionHeads& heads) {
  std::vector<HeadGroup> groups;
  for (int64_t head = 0; head < heads.count(); ++head) {
    const int64_t kv_head = heads.kv_head[static_cast<size_t>(head)];
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const HeadGroup& g) { return g.kv_head == kv_head; });
    if (group == groups.end()) group = groups.insert(groups.end(), HeadGroup{kv_head, {}});
    group->heads.push_back(head);
  }
  return groups;
}

std::vector<AttentionItem> attention_items(std::span<const AttentionSequence> sequences,
                                           std::span<const HeadGroup> groups, int threads) {
  // Rows (query, head) of one item: enough that a block's packing is little beside its use, and few
  // enough that their sums stay in the second-level cache.
  constexpr int64_t rows_an_item = 192;
  int64_t widest = 1, queries = 0;
  for (const HeadGroup& group : groups) widest = std::max(widest, group.size());
  for (const AttentionSequence& s : sequences) queries += s.query_rows.size();
  const int64_t group_count = static_cast<int64_t>(groups.size());

  std::vector<AttentionItem> items;
  for (const AttentionSequence& s : sequences) {
    const int64_t rows = s.query_rows.size();
    const int64_t tile = std::min(rows, std::max<int64_t>(1, rows_an_item / widest));
    if (tile == 0) continue;
    // One rank's threads each get several items, unless there is but one query or few.
    const int64_t tiles = std::max<int64_t>(1, queries / tile);
    const int64_t wanted = threads > 1 ? (4 * threads + tiles - 1) / tiles : 1;
    const int64_t fitting = std::max<int64_t>(1, rows_an_item / (tile * widest));
    const int64_t at_once = std::clamp<int64_t>(group_count / wanted, 1, fitting);
    // The last queries see the most keys: they go first.
    for (int64_t end = rows; end > 0; end -= std::min(end, tile)) {
      for (int64_t g = 0; g < group_count; g += at_once) {
        items.push_back(
            {&s, {g, std::min(group_count, g + at_once)}, {std::max<int64_t>(0, end - tile), end}});
      }
    }
  }
  return items;
}

}  // namespace tandem::cpu
