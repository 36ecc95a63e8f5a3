#include "tandem/device/paced_device.h"

#include <chrono>
#include <thread>
#include <utility>

namespace tandem {
namespace {

class PacedDevice final : public Device {
 public:
  PacedDevice(std::unique_ptr<Device> device, double pace)
      : device_(std::move(device)), pace_(pace) {}

  Tensor allocate(int64_t rows, int64_t cols, DType dtype) override {
    return device_->allocate(rows, cols, dtype);
  }
  double now_seconds() const override { return device_->now_seconds(); }
  int64_t allocated_bytes() const override { return device_->allocated_bytes(); }
  int64_t peak_allocated_bytes() const override { return device_->peak_allocated_bytes(); }
  std::span<const int32_t> integers(const Tensor& t) override { return device_->integers(t); }
  std::span<const float> floats(const Tensor& t) override { return device_->floats(t); }
  Tensor upload(std::span<const int32_t> values, int64_t rows, int64_t cols) override {
    return device_->upload(values, rows, cols);
  }
  Tensor upload(std::span<const float> values, int64_t rows, int64_t cols) override {
    return device_->upload(values, rows, cols);
  }

#define TANDEM_EXECUTE(Operation) \
  void execute(const Operation& op) override { run(op); }
  TANDEM_OPERATIONS(TANDEM_EXECUTE)
#undef TANDEM_EXECUTE

 private:
  // Sleep is too coarse for the shortest operations: what is owed is slept off together.
  template <class Operation>
  void run(const Operation& op) {
    constexpr double least_sleep_seconds = 200e-6;
    const double start = now_seconds();
    device_->execute(op);
    const double end = now_seconds();
    owed_seconds_ += (pace_ - 1) * (end - start);
    if (owed_seconds_ < least_sleep_seconds) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(owed_seconds_));
    owed_seconds_ -= now_seconds() - end;
  }

  std::unique_ptr<Device> device_;
  double pace_;
  double owed_seconds_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_paced_device(std::unique_ptr<Device> device, double pace) {
  return std::make_unique<PacedDevice>(std::move(device), pace);
}

}  // namespace tandem
