// Keys and values of the sequences that live on one rank: blocks of kv_block_tokens positions out
// of memory that is planned once. Sequences are known by their slot.
#pragma once

#include <span>
#include <vector>

#include "tandem/device/device.h"

namespace tandem {

class KvCache {
 public:
  // `width`: K/V heads of this rank times head_dim.
  KvCache(Device& device, int64_t layers, int64_t width, DType dtype, int64_t slots,
          int64_t tokens_per_slot);

  // Makes room for positions [0, tokens) of a slot. InputError where the planned memory is used up.
  void reserve(int32_t slot, int64_t tokens);
  void release(int32_t slot);

  // Row in keys()/values() of position 0, 64, 128, ... of a slot.
  std::span<const int32_t> block_rows(int32_t slot) const { return tables_[slot]; }
  int32_t row(int32_t slot, int64_t position) const {
    return tables_[slot][position / kv_block_tokens] +
           static_cast<int32_t>(position % kv_block_tokens);
  }
  const Tensor& keys(int64_t layer) const {
    return keys_[layer];
  }  // counted from the stage's first
  const Tensor& values(int64_t layer) const { return values_[layer]; }
  int64_t bytes() const;

 private:
  std::vector<Tensor> keys_, values_;
  std::vector<std::vector<int32_t>> tables_;  // by slot
  std::vector<int32_t> free_;
};

}  // namespace tandem
