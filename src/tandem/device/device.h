// A device runs operations (operations.h) and hands out memory. One device a rank, used by that
// rank's thread alone. Implementations: cpu/ (and shapes alone in a simulated world).
#pragma once

#include <cstdint>
#include <span>

#include "tandem/device/operations.h"
#include "tandem/device/tensor.h"
#include "tandem/trace/span.h"

namespace tandem {

// Every operation there is, once: X(Operation).
// clang-format off
#define TANDEM_OPERATIONS(X)                                                                     \
  X(Linear)                                                                                      \
  X(LinearInputGradient)                                                                         \
  X(LinearWeightGradient) X(HeadLinear) X(HeadLinearWeightGradient)                              \
  X(Experts)                                                                                     \
  X(ExpertsBackward) X(Attention) X(AttentionBackward) X(RotationTable) X(Rotate)                \
  X(Norm) X(NormBackward)                                                                        \
  X(HeadSquares) X(SplitNorm) X(SplitNormProduct) X(SplitNormBackward) X(Clip) X(ClipBackward)   \
  X(Sigmoid) X(SigmoidBackward) X(CopyRows) X(AddRows) X(Sum) X(AddResidual) X(ResidualBackward) \
  X(Quantise) X(Zero) X(FillNormal)                                                              \
  X(Route) X(RouteBackward) X(RouterLoss) X(Combine) X(CombineBackward)                          \
  X(VocabularyStatistics) X(JoinStatistics) X(VocabularyGradient) X(Sample) X(AdamW)             \
  X(SquaredSum) X(EncodeGradient) X(DecodeGradient)
// clang-format on

// What spans of an operation are called, and what a device type may say about it. Drawing the
// numbers of dropout takes long enough to make it another operation.
template <class Operation>
const char* name_of([[maybe_unused]] const Operation& op) {
  if constexpr (requires { Operation::name_with_dropout; })
    if (op.dropout.active()) return Operation::name_with_dropout;
  return Operation::name;
}

class Device {
 public:
  virtual ~Device() = default;

  // Memory with unspecified content, 64-byte aligned rows' start; returns to the device's pool when
  // the last view is gone, from whatever thread.
  virtual Tensor allocate(int64_t rows, int64_t cols, DType dtype) = 0;
  virtual double now_seconds() const = 0;
  // Bytes handed out and not yet returned, and the most there ever were.
  virtual int64_t allocated_bytes() const = 0;
  virtual int64_t peak_allocated_bytes() const = 0;

  // The few values a rank program must know: routing, sampled tokens, losses, norms.
  // Contiguous tensors only; valid while the tensor lives.
  virtual std::span<const int32_t> integers(const Tensor& t) = 0;
  virtual std::span<const float> floats(const Tensor& t) = 0;
  // Host numbers into a new tensor [rows, cols].
  virtual Tensor upload(std::span<const int32_t> values, int64_t rows, int64_t cols) = 0;
  virtual Tensor upload(std::span<const float> values, int64_t rows, int64_t cols) = 0;

#define TANDEM_EXECUTE(Operation) virtual void execute(const Operation& op) = 0;
  TANDEM_OPERATIONS(TANDEM_EXECUTE)
#undef TANDEM_EXECUTE
};

// Where in the model and the timeline operations belong: each coroutine of a rank has its own
// track.
class Track {
 public:
  Track(Device& device, Recorder& recorder, Lane lane, int16_t micro_batch = -1)
      : device_(&device), recorder_(&recorder), lane_(lane), micro_batch_(micro_batch) {}

  int16_t layer = -1;
  bool backward = false;

  Device& device() const { return *device_; }
  int16_t micro_batch() const { return micro_batch_; }
  Tensor allocate(int64_t rows, int64_t cols, DType dtype) const {
    return device_->allocate(rows, cols, dtype);
  }

  template <class Operation>
  void run(const Operation& op) const {
    Span span{.name = name_of(op),
              .lane = lane_,
              .backward = backward,
              .layer = layer,
              .micro_batch = micro_batch_,
              .cost = op.cost()};
    span.start_seconds = device_->now_seconds();
    device_->execute(op);
    span.end_seconds = device_->now_seconds();
    recorder_->add(span);
  }

 private:
  Device* device_;
  Recorder* recorder_;
  Lane lane_;
  int16_t micro_batch_;
};

}  // namespace tandem
