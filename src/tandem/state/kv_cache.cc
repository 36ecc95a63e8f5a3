#include "tandem/state/kv_cache.h"

namespace tandem {

KvCache::KvCache(Device& device, int64_t layers, int64_t width, DType dtype, int64_t slots,
                 int64_t tokens_per_slot) {
  const int64_t blocks = slots * kv_blocks(tokens_per_slot);
  for (int64_t layer = 0; layer < layers; ++layer)
    rows_.push_back(device.allocate(blocks * kv_block_tokens, width, dtype));
  for (int64_t block = blocks - 1; block >= 0; --block)
    free_.push_back(static_cast<int32_t>(block * kv_block_tokens));
}

void KvCache::reserve(int32_t slot, int64_t tokens) {
  if (slot >= static_cast<int32_t>(tables_.size())) tables_.resize(slot + 1);
  auto& table = tables_[slot];
  while (static_cast<int64_t>(table.size()) * kv_block_tokens < tokens) {
    if (free_.empty())
      throw InputError("the K/V memory is used up: slot {} asks for {} tokens", slot, tokens);
    table.push_back(free_.back());
    free_.pop_back();
  }
}

void KvCache::release(int32_t slot) {
  if (slot >= static_cast<int32_t>(tables_.size())) return;
  auto& table = tables_[slot];
  while (!table.empty()) {
    free_.push_back(table.back());
    table.pop_back();
  }
}

int64_t KvCache::bytes() const {
  int64_t total = 0;
  for (const Tensor& t : rows_) total += t.bytes();
  return total;
}

}  // namespace tandem
