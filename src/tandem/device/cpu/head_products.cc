// Products of heads, one after the other: each is a whole product on all threads.
#include "tandem/device/cpu/eight_bits.h"
#include "tandem/device/cpu/kernels.h"

namespace tandem::cpu {

void run(const HeadLinear& op, int threads) {
  static thread_local Scratch scratch;
  for (int64_t head = 0; head < op.heads(); ++head) {
    const Tensor x = op.x.slice_cols(op.x_columns.of(head));
    const Tensor weight = widened(op.weight.slice_rows(op.weight_rows.of(head)), scratch, threads);
    const Tensor y = op.y.slice_cols(op.y_columns.of(head));
    if (op.transposed)
      run(LinearInputGradient{.dy = x, .weight = weight, .dx = y}, threads);
    else
      run(Linear{.x = x, .weight = weight, .y = y}, threads);
  }
}

void run(const HeadLinearWeightGradient& op, int threads) {
  for (int64_t head = 0; head < op.heads(); ++head)
    run(LinearWeightGradient{.dy = op.dy.slice_cols(op.dy_columns.of(head)),
                             .x = op.x.slice_cols(op.x_columns.of(head)),
                             .dweight = op.dweight.slice_rows(op.weight_rows.of(head))},
        threads);
}

}  // namespace tandem::cpu
