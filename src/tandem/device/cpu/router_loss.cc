#include "tandem/device/cpu/kernels.h"

namespace tandem {

Cost RouterLoss::cost() const {
  const double values = static_cast<double>(rows.size()) * static_cast<double>(probabilities.cols);
  return {.flops = 2 * values, .bytes = 4 * values};
}

namespace cpu {

void run(const RouterLoss& op, int) {
  double balance = 0, squares = 0;
  for (int64_t r = op.rows.begin; r < op.rows.end; ++r) {
    const int32_t group = op.row_group[static_cast<size_t>(r)];
    if (group < 0) continue;
    const float* p = op.probabilities.row<float>(r);
    if (op.balance) {
      const float* factor = op.balance.row<float>(group);
      double product = 0, sum = 0;
      for (int64_t e = 0; e < op.probabilities.cols; ++e)
        product += double{factor[e]} * p[e], sum += p[e];
      balance += product / sum;
    }
    const double logsumexp = *op.logsumexp.row<float>(r);
    squares += logsumexp * logsumexp;
  }
  op.out.row<float>(0)[0] = static_cast<float>(balance);
  op.out.row<float>(0)[1] = static_cast<float>(squares);
}

}  // namespace cpu
}  // namespace tandem
