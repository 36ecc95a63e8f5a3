#include "tandem/runtime/steps.h"

namespace tandem {

Track own_track(Rank& rank) {
  return {rank.device, rank.recorder, rank.role.attention ? Lane::attention : Lane::expert};
}

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

void projection_norm(const Rank& rank, const Track& on, const Tensor& x, const Tensor& weight,
                     const Tensor& y, const Tensor& statistics) {
  if (x.empty()) return;
  on.run(Norm{.epsilon = static_cast<float>(rank.model.norm_epsilon),
              .x = x,
              .weight = weight,
              .y = y,
              .statistics = statistics});
}

void projection_norm_backward(const Track& on, const Tensor& x, const Tensor& weight,
                              const Tensor& statistics, const Tensor& dy, const Tensor& dx,
                              const Tensor& dweight) {
  on.run(Zero{.x = dx});
  on.run(NormBackward{.x = x,
                      .weight = weight,
                      .statistics = statistics,
                      .dy = dy,
                      .dx = dx,
                      .dweight = dweight,
                      .weight_rows = {0, x.rows}});
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
