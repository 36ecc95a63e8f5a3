// The gradient of attention: probabilities are computed again, block by block, from the logsumexp
// that the forward pass kept. A thread has whole heads of keys and values, so that nobody else
// writes their gradients; its queries come in order.
#include "tandem/device/cpu/attention_kernels.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/parallel.h"

namespace tandem::cpu {

void run(const AttentionBackward& op, int threads) {
  TANDEM_CHECK(op.dkeys.dtype == DType::f32 && op.dvalues.dtype == DType::f32 &&
                   op.dq.dtype == op.q.dtype && op.dout.dtype == op.q.dtype,
               "attention gradient of {} in {}", dtype_name(op.q.dtype),
               dtype_name(op.dkeys.dtype));
  const Engine engine = standing_engine_for(op.q.dtype);
  std::vector<HeadGroup> groups;
  head_groups(op.heads, groups);
  parallel_items(threads, static_cast<int64_t>(groups.size()), [&](int64_t g) {
    const HeadGroup& group = groups[static_cast<size_t>(g)];
    const int64_t tile = queries_at_once(op.heads, group);
    for (const AttentionSequence& sequence : op.sequences) {
      const int64_t queries = sequence.query_rows.size();
      for (int64_t begin = 0; begin < queries; begin += tile) {
        const GroupRows rows{&sequence, &group, {begin, std::min(queries, begin + tile)}};
        if (engine.pairs)
          attention_backward_bf16(op, engine, rows);
        else
          attention_backward_lanes(op, rows);
      }
    }
  });
}

}  // namespace tandem::cpu
