#include "tandem/runtime/steps.h"

namespace tandem {

Tensor kept(const Rank& rank, const Track& on, int64_t rows, int64_t cols, DType dtype) {
  return rank.keeps ? on.allocate(rows, cols, dtype) : Tensor{};
}

Tensor normed(Rank& rank, const Track& on, const Tensor& x, const Tensor& weight,
              const Tensor& bias, Tensor& statistics) {
  Tensor y = on.allocate(x.rows, x.cols, rank.dtype());
  statistics = kept(rank, on, x.rows, 2, DType::f32);
  if (x.rows > 0)
    on.run(Norm{.kind = norm_kind(rank.model),
                .epsilon = static_cast<float>(rank.model.norm_epsilon),
                .x = x,
                .weight = weight,
                .bias = bias,
                .y = y,
                .statistics = statistics});
  return y;
}

Tensor linear(const Track& on, const Tensor& x, const Tensor& weight, const Tensor& bias,
              DType dtype) {
  Tensor y = on.allocate(x.rows, weight.rows, dtype);
  if (x.rows > 0) on.run(Linear{.x = x, .weight = weight, .bias = bias, .y = y});
  return y;
}

Tensor as_type(const Track& on, const Tensor& x, DType dtype) {
  if (x.dtype == dtype) return x;
  Tensor converted = on.allocate(x.rows, x.cols, dtype);
  if (x.rows > 0) on.run(CopyRows{.from = x, .to = converted});
  return converted;
}

NormKind norm_kind(const ModelConfig& model) {
  return model.norm == NormType::rms ? NormKind::rms : NormKind::layer;
}

std::span<const uint64_t> keys_of(const MicroBatch& batch, const Interval& rows) {
  return std::span(batch.keys).subspan(rows.begin, rows.size());
}

}  // namespace tandem
