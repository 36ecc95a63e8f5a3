// Which pairs of tokens become one, and in which order: looked up for each pair of each word, so a
// flat table with open addressing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::text {

struct Merge {
  uint32_t rank = UINT32_MAX;  // lower goes first; the largest of all: no merge
  int32_t token = -1;          // what the pair becomes

  explicit operator bool() const { return token >= 0; }
};

class MergeTable {
 public:
  explicit MergeTable(size_t merges = 0) {
    size_t slots = 16;
    while (slots < 2 * merges) slots *= 2;
    slots_.resize(slots);
    shift_ = 64;
    for (size_t n = slots; n > 1; n /= 2) --shift_;
  }

  // Of two merges of one pair the later counts, as in tokenizers. At most as many as announced.
  void add(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[place(left, right)];
    slot = {left, right, merge};
  }
  Merge find(int32_t left, int32_t right) const { return slots_[place(left, right)].merge; }

 private:
  struct Slot {
    int32_t left = -1;
    int32_t right = -1;
    Merge merge;
  };

  // Where the pair is, or the free place where it would be: at least half of the places are free.
  size_t place(int32_t left, int32_t right) const {
    const uint64_t key =
        static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
    size_t i = static_cast<size_t>((key ^ key >> 29) * 0x9E3779B97F4A7C15u >> shift_);
    while (slots_[i].left >= 0 && (slots_[i].left != left || slots_[i].right != right)) {
      i = (i + 1) & (slots_.size() - 1);
    }
    return i;
  }

  std::vector<Slot> slots_;
  int shift_ = 60;
};

}  // namespace tandem::text
