// Keys and values of the sequences that live on one rank: blocks of kv_block_tokens positions out
// of memory that is planned once. Sequences are known by their slot.
#pragma once

#include <span>
#include <vector>

#include "tandem/device/device.h"

namespace tandem {

class KvCache {
 public:
  // `width`: numbers kept of a token in a layer (ModelConfig::cache_width).
  KvCache(Device& device, int64_t layers, int64_t width, DType dtype, int64_t slots,
          int64_t tokens_per_slot);

  // Makes room for positions [0, tokens) of a slot. InputError where the planned memory is used up.
  void reserve(int32_t slot, int64_t tokens);
  void release(int32_t slot);

  // Row in rows() of position 0, 64, 128, ... of a slot.
  std::span<const int32_t> block_rows(int32_t slot) const { return tables_[slot]; }
  int32_t row(int32_t slot, int64_t position) const {
    return tables_[slot][position / kv_block_tokens] +
           static_cast<int32_t>(position % kv_block_tokens);
  }
  // [positions, width]; layers are counted from the stage's first.
  const Tensor& rows(int64_t layer) const { return rows_[layer]; }
  int64_t bytes() const;

 private:
  std::vector<Tensor> rows_;
  std::vector<std::vector<int32_t>> tables_;  // by slot
  std::vector<int32_t> free_;
};

}  // namespace tandem
