// Memory that is needed soon, brought near some lines at a time, in the order in which it lies:
// spread over other work, so that memory is always busy and never asked for more than it can have
// under way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tandem/device/cpu/attention_work.h"
#include "tandem/device/cpu/blocks.h"

namespace tandem::cpu {

class LinesAhead {
 public:
  static constexpr int64_t bytes_at_once = 1 * line_bytes;
  // The same part of some rows.
  struct Part {
    const std::byte* data = nullptr;
    int64_t row_step = 0, bytes = 0;
  };

  LinesAhead() = default;
  // Of the block that begins at `position`: keys and values of all heads of an item, none behind
  // its last stretch.
  LinesAhead(const Attention& op, const AttentionItem& item, int64_t position);
  // Of each row first one part, then the other.
  LinesAhead(const Part& first, const Part& second, int64_t rows)
      : parts_{first, second}, rows_(rows) {
    enter();
  }
  int64_t lines() const {
    return rows_ * ((parts_[0].bytes + parts_[1].bytes + bytes_at_once - 1) / bytes_at_once);
  }
  // Into the second-level cache.
  void bring(int64_t count) {
    while (count > 0 && row_ < rows_) {
      const int64_t here = std::min(count, (end_ - at_ + bytes_at_once - 1) / bytes_at_once);
      for (int64_t i = 0; i < here; ++i) __builtin_prefetch(at_ + i * bytes_at_once, 0, 2);
      count -= here;
      at_ += here * bytes_at_once;
      if (at_ >= end_) leave();
    }
  }

 private:
  void leave() {
    row_ += part_;
    part_ = parts_[1].bytes > 0 ? 1 - part_ : 0;
    row_ += parts_[1].bytes == 0;
    enter();
  }
  void enter() {
    if (row_ >= rows_) return;
    const Part& part = parts_[part_];
    at_ = part.data + row_ * part.row_step;
    end_ = at_ + part.bytes;
  }

  Part parts_[2];
  int64_t rows_ = 0, row_ = 0;
  int part_ = 0;
  const std::byte *at_ = nullptr, *end_ = nullptr;
};

}  // namespace tandem::cpu
