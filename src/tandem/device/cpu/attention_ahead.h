// Memory that is needed soon, brought near some lines at a time, in the order in which it lies:
// spread over other work, so that memory is always busy and never asked for more than it can have
// under way.
#pragma once

#include <cstddef>
#include <cstdint>

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
  // Of each row first one part, then the other.
  LinesAhead(const Part& first, const Part& second, int64_t rows)
      : parts_{first, second}, rows_(rows) {
    enter();
  }
  int64_t lines() const {
    return rows_ * ((parts_[0].bytes + parts_[1].bytes + bytes_at_once - 1) / bytes_at_once);
  }
  void bring(int64_t count) {
    for (; count > 0 && row_ < rows_; --count) {
      __builtin_prefetch(at_, 0, 2);
      at_ += bytes_at_once;
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
