#include "tandem/device/cpu/attention_ahead.h"

namespace tandem::cpu {

LinesAhead::LinesAhead(const Attention& op, const AttentionItem& item, int64_t position) {
  const Interval block = item.rows(0).block(position);
  if (block.empty() || position >= item.stretches.end * stretch_tokens) return;
  const Interval heads{item.groups.front().kv_head, item.groups.back().kv_head + 1};
  const auto part = [&](const Tensor& t, int64_t dim) {
    const int64_t number_bytes = size_of(t.dtype);
    return Part{t.row_bytes(block.begin) + heads.begin * dim * number_bytes,
                t.stride * number_bytes, heads.size() * dim * number_bytes};
  };
  const Part keys = part(op.keys, op.heads.head_dim);
  Part values = part(op.values, op.heads.value_dim);
  if (values.data >= keys.data && values.data + values.bytes <= keys.data + keys.bytes)
    values.bytes = 0;  // they are columns of the keys
  *this = {keys, values, block.size()};
}

}  // namespace tandem::cpu
