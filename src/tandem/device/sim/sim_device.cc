#include "tandem/device/sim/sim_device.h"

#include <algorithm>
#include <vector>

#include "tandem/cost/operation_cost.h"

namespace tandem {
namespace {

struct Use {
  int64_t bytes = 0, peak_bytes = 0;
  void take(int64_t count) {
    bytes += count;
    peak_bytes = std::max(peak_bytes, bytes);
  }
};

// Counted as long as a view of it lives; numbers are kept for integers alone.
class SimStorage final : public Storage {
 public:
  SimStorage(std::shared_ptr<Use> use, int64_t bytes, std::unique_ptr<std::byte[]> numbers)
      : Storage(numbers.get()), use_(std::move(use)), size_(bytes), numbers_(std::move(numbers)) {
    use_->take(size_);
  }

 private:
  void last_release() override {
    use_->bytes -= size_;
    delete this;
  }
  std::shared_ptr<Use> use_;
  int64_t size_;
  std::unique_ptr<std::byte[]> numbers_;
};

// The dtype that an operation multiplies in: of its matrices, where it has some.
template <class Operation>
DType dtype_of(const Operation& op) {
  if constexpr (requires { op.weight.dtype; })
    return op.weight.dtype;
  else if constexpr (requires { op.weights[0].up.dtype; })
    return op.weights[0].up.dtype;
  else if constexpr (requires { op.x.dtype; })
    return op.x.dtype;
  else if constexpr (requires { op.q.dtype; })
    return op.q.dtype;
  else
    return DType::f32;
}

class SimDevice final : public Device {
 public:
  SimDevice(const DeviceType& type, const Routing& routing, double& clock_seconds, Pace pace,
            Crowding crowding)
      : type_(type),
        routing_(routing),
        clock_seconds_(clock_seconds),
        pace_(std::move(pace)),
        crowding_(std::move(crowding)) {}

  Tensor allocate(int64_t rows, int64_t cols, DType dtype) override {
    const int64_t bytes = rows * cols * size_of(dtype);
    auto numbers = dtype == DType::i32
                       ? std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes))
                       : nullptr;
    StorageRef storage(new SimStorage(use_, bytes, std::move(numbers)));
    std::byte* data = storage.get()->bytes();
    return {std::move(storage), data, dtype, rows, cols, cols};
  }
  double now_seconds() const override { return clock_seconds_; }
  int64_t allocated_bytes() const override { return use_->bytes; }
  int64_t peak_allocated_bytes() const override { return use_->peak_bytes; }

  std::span<const int32_t> integers(const Tensor& t) override {
    TANDEM_CHECK(t.contiguous() && t.dtype == DType::i32, "integers of a {} tensor",
                 dtype_name(t.dtype));
    return {t.row<int32_t>(0), static_cast<size_t>(t.elements())};
  }
  // Losses and norms are not known here.
  std::span<const float> floats(const Tensor& t) override {
    zeros_.resize(std::max(zeros_.size(), static_cast<size_t>(t.elements())));
    return std::span(zeros_).first(static_cast<size_t>(t.elements()));
  }
  Tensor upload(std::span<const int32_t> values, int64_t rows, int64_t cols) override {
    Tensor t = allocate(rows, cols, DType::i32);
    std::ranges::copy(values, t.row<int32_t>(0));
    return t;
  }
  Tensor upload(std::span<const float>, int64_t rows, int64_t cols) override {
    return allocate(rows, cols, DType::f32);
  }

#define TANDEM_EXECUTE(Operation)               \
  void execute(const Operation& op) override {  \
    take(name_of(op), dtype_of(op), op.cost()); \
    answer(op);                                 \
  }
  TANDEM_OPERATIONS(TANDEM_EXECUTE)
#undef TANDEM_EXECUTE

 private:
  void take(const char* operation, DType dtype, const Cost& cost) {
    const auto crowding = crowding_.find(operation);
    clock_seconds_ = pace_.end_seconds(
        clock_seconds_, operation_seconds(type_, operation, dtype_name(dtype), cost,
                                          crowding == crowding_.end() ? 0 : crowding->second));
  }

  template <class Operation>
  void answer(const Operation&) {}
  // Integers are real: they say where rows go.
  void answer(const CopyRows& op) {
    if (op.from.dtype != DType::i32 || op.to.dtype != DType::i32) return;
    for (int64_t i = 0; i < op.count(); ++i) {
      const auto at = static_cast<size_t>(i);
      const int64_t from = op.from_rows.empty() ? i : op.from_rows[at];
      const int64_t to = op.to_rows.empty() ? i : op.to_rows[at];
      std::copy_n(op.from.row<int32_t>(from), op.from.cols, op.to.row<int32_t>(to));
    }
  }
  void answer(const Route& op) {
    for (int64_t i = 0; i < op.experts.rows; ++i)
      routing_(op.layer, op.keys[static_cast<size_t>(i)],
               {op.experts.row<int32_t>(i), static_cast<size_t>(op.experts.cols)});
  }

  const DeviceType& type_;
  const Routing& routing_;
  double& clock_seconds_;
  Pace pace_;
  Crowding crowding_;
  std::shared_ptr<Use> use_ = std::make_shared<Use>();
  std::vector<float> zeros_;
};

}  // namespace

std::unique_ptr<Device> make_sim_device(const DeviceType& type, const Routing& routing,
                                        double& clock_seconds, Pace pace, Crowding crowding) {
  return std::make_unique<SimDevice>(type, routing, clock_seconds, std::move(pace),
                                     std::move(crowding));
}

}  // namespace tandem
