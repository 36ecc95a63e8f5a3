// What the forward and the backward pass of experts share: rows of experts as tasks, taken in waves
// whose hidden features fit in memory that is reused.
#pragma once

#include <algorithm>
#include <span>

#include "tandem/device/cpu/panels.h"
#include "tandem/device/operations.h"

namespace tandem::cpu {

// Some rows of one expert.
struct ExpertTask {
  size_t expert = 0;
  Interval rows;
  int64_t hidden_bytes = 0;  // where its hidden features begin in the wave's scratch (forward)
};

// Walks through the rows of all experts. A wave is up to `most_rows` rows (one task at least), in
// tasks of up to `task_rows`; an expert has one task in a wave at most.
class Waves {
 public:
  Waves(std::span<const int32_t> offsets, int64_t most_rows, int64_t task_rows)
      : offsets_(offsets), most_rows_(most_rows), task_rows_(task_rows) {}

  // The tasks of the next wave, in `tasks` (room for every expert); none at the end.
  std::span<ExpertTask> next(std::span<ExpertTask> tasks) {
    size_t count = 0;
    int64_t rows = 0;
    while (expert_ + 1 < offsets_.size()) {
      const Interval left{std::max<int64_t>(offsets_[expert_], done_), offsets_[expert_ + 1]};
      if (left.empty()) {
        ++expert_;
        continue;
      }
      const bool same_expert = count > 0 && tasks[count - 1].expert == expert_;
      const int64_t taken = std::min(left.size(), task_rows_);
      if (same_expert || (count > 0 && rows + taken > most_rows_)) break;
      done_ = left.begin + taken;
      tasks[count++] = {expert_, {left.begin, done_}};
      rows += taken;
    }
    return tasks.first(count);
  }

 private:
  std::span<const int32_t> offsets_;
  int64_t most_rows_, task_rows_;
  size_t expert_ = 0;
  int64_t done_ = 0;  // rows before this one are in earlier tasks
};

// Pointers to some rows of a list; null where there is no row.
template <class Pointer>
std::span<Pointer> rows_of(const RowList& list, const Interval& rows, Scratch& scratch) {
  const auto out = pointers<Pointer>(scratch, rows.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const RowRef ref = list.rows[static_cast<size_t>(rows.begin) + i];
    out[i] =
        ref.source < 0 ? nullptr : list.sources[static_cast<size_t>(ref.source)].row_bytes(ref.row);
  }
  return out;
}

}  // namespace tandem::cpu
