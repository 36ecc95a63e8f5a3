#include "tandem/device/cpu/attention_work.h"

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

int64_t rows_at_once(const AttentionHeads& heads) {
  constexpr int64_t cached_numbers = 128 << 10;
  return std::clamp<int64_t>(cached_numbers / (heads.head_dim + 2 * heads.value_dim), 64, 256);
}

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace

int64_t queries_at_once(const AttentionHeads& heads, const HeadGroup& group) {
  return std::max<int64_t>(1, rows_at_once(heads) / group.size());
}

int64_t units_of(const AttentionItem& item) {
  int64_t units = 0;
  for (size_t g = 0; g < item.groups.size(); ++g) units += parts(item.rows(g).count(), unit_rows);
  return units;
}

void attention_items(const AttentionHeads& heads, std::span<const AttentionSequence> sequences,
                     std::span<const HeadGroup> groups, int threads, bool stretches_apart,
                     std::vector<AttentionItem>& items) {
  int64_t widest = 1, tile = rows_at_once(heads);
  for (const HeadGroup& group : groups) {
    widest = std::max(widest, group.size());
    tile = std::min(tile, queries_at_once(heads, group));
  }
  int64_t tiles = 0, pieces = 0;
  for (const AttentionSequence& s : sequences) {
    const int64_t count = parts(s.query_rows.size(), tile);
    tiles += count;
    pieces += count * stretches_of(s.key_count());
  }
  // Every thread should get several items, whatever their sizes: stretches are dealt out where
  // tiles of queries are few, and groups only where that is not enough.
  const int64_t enough = threads == 1 ? 1 : 4 * threads;
  const bool split = stretches_apart && tiles < enough;
  const int64_t cuts = parts(enough, std::max<int64_t>(1, split ? pieces : tiles));
  const int64_t together = parts(static_cast<int64_t>(groups.size()), cuts);

  items.clear();
  int64_t units = 0;
  for (const AttentionSequence& s : sequences) {
    const int64_t queries = std::min(tile, std::max<int64_t>(1, s.query_rows.size()));
    const int64_t fitting = std::max<int64_t>(1, rows_at_once(heads) / (queries * widest));
    const auto step = static_cast<size_t>(std::max<int64_t>(1, std::min(together, fitting)));
    // The last queries see the most keys: they go first.
    for (int64_t end = s.query_rows.size(); end > 0; end -= std::min(end, tile)) {
      const int64_t all = stretches_of(s.first_position + end), each = split ? 1 : all;
      for (size_t g = 0; g < groups.size(); g += step) {
        const auto some = groups.subspan(g, std::min(step, groups.size() - g));
        for (int64_t i = 0; i < all; i += each) {
          items.push_back(
              {&s, some, {std::max<int64_t>(0, end - tile), end}, {i, i + each}, units});
          units += units_of(items.back());
        }
      }
    }
  }
}

}  // namespace tandem::cpu
