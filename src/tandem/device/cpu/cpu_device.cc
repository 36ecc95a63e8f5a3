#include "tandem/device/cpu/cpu_device.h"

#include <algorithm>

#include "tandem/base/clock.h"
#include "tandem/device/cpu/kernels.h"
#include "tandem/device/cpu/pool.h"

namespace tandem {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads) : threads_(threads) {}

  Tensor allocate(int64_t rows, int64_t cols, DType dtype) override {
    return pool_->allocate(rows, cols, dtype);
  }
  double now_seconds() const override { return wall_seconds(); }
  int64_t allocated_bytes() const override { return pool_->allocated_bytes(); }
  int64_t peak_allocated_bytes() const override { return pool_->peak_bytes(); }

  std::span<const int32_t> integers(const Tensor& t) override { return values<int32_t>(t); }
  std::span<const float> floats(const Tensor& t) override { return values<float>(t); }
  Tensor upload(std::span<const int32_t> v, int64_t rows, int64_t cols) override {
    return upload_as(v, rows, cols, DType::i32);
  }
  Tensor upload(std::span<const float> v, int64_t rows, int64_t cols) override {
    return upload_as(v, rows, cols, DType::f32);
  }

#define TANDEM_EXECUTE(Operation) \
  void execute(const Operation& op) override { cpu::run(op, threads_); }
  TANDEM_OPERATIONS(TANDEM_EXECUTE)
#undef TANDEM_EXECUTE

 private:
  template <class T>
  std::span<const T> values(const Tensor& t) const {
    TANDEM_CHECK(t.contiguous() && t.dtype == (std::is_same_v<T, float> ? DType::f32 : DType::i32),
                 "values of a {} tensor", dtype_name(t.dtype));
    return {t.row<T>(0), static_cast<size_t>(t.elements())};
  }
  template <class T>
  Tensor upload_as(std::span<const T> v, int64_t rows, int64_t cols, DType dtype) {
    TANDEM_CHECK(static_cast<int64_t>(v.size()) == rows * cols, "upload {} values as {} x {}",
                 v.size(), rows, cols);
    Tensor t = allocate(rows, cols, dtype);
    std::copy(v.begin(), v.end(), t.row<T>(0));
    return t;
  }

  int threads_;
  std::shared_ptr<cpu::Pool> pool_ = std::make_shared<cpu::Pool>();
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(int threads) {
  return std::make_unique<CpuDevice>(std::max(threads, 1));
}

}  // namespace tandem
