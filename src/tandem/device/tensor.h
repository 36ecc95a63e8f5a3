// Tensors are two-dimensional views (rows x cols, row stride) of reference-counted storage.
// Storage may have no memory behind it: in a simulated world tensors are shapes alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "tandem/base/error.h"
#include "tandem/base/interval.h"

namespace tandem {

// fp8 (e4m3) and int8, with factors (block_scales.h), are for weights alone.
enum class DType : uint8_t { f32, bf16, fp8, int8, i32 };

constexpr bool eight_bits(DType dtype) { return dtype == DType::fp8 || dtype == DType::int8; }

constexpr int64_t size_of(DType dtype) {
  return eight_bits(dtype) ? 1 : dtype == DType::bf16 ? 2 : 4;
}
// What is multiplied with weights of a dtype.
constexpr DType compute_type(DType weights) { return eight_bits(weights) ? DType::bf16 : weights; }
std::string_view dtype_name(DType dtype);
DType parse_dtype(std::string_view name);  // InputError for anything but f32, bf16, fp8, int8

struct bfloat16 {
  uint16_t bits;
};

struct BlockScales;

// A piece of memory that outlives every view of it. Counting is thread safe: a rank may let go of
// what another rank sent it.
class Storage {
 public:
  explicit Storage(std::byte* bytes) : bytes_(bytes) {}
  virtual ~Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* bytes() const { return bytes_; }
  virtual const BlockScales* scales() const { return nullptr; }
  void retain() { count_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) last_release();
  }

 protected:
  virtual void last_release() = 0;  // delete, or back to its pool

 private:
  std::byte* bytes_;
  std::atomic<int32_t> count_{0};
};

class StorageRef {
 public:
  StorageRef() = default;
  explicit StorageRef(Storage* storage) : storage_(storage) {
    if (storage_) storage_->retain();
  }
  StorageRef(const StorageRef& other) : StorageRef(other.storage_) {}
  StorageRef(StorageRef&& other) noexcept : storage_(std::exchange(other.storage_, nullptr)) {}
  StorageRef& operator=(StorageRef other) noexcept {
    std::swap(storage_, other.storage_);
    return *this;
  }
  ~StorageRef() {
    if (storage_) storage_->release();
  }
  Storage* get() const { return storage_; }
  explicit operator bool() const { return storage_ != nullptr; }

 private:
  Storage* storage_ = nullptr;
};

struct Tensor {
  StorageRef storage;
  std::byte* data = nullptr;  // of element (0, 0); null where the world keeps shapes alone
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;  // elements from a row to the next, >= cols

  bool empty() const { return rows == 0 || cols == 0; }
  explicit operator bool() const { return static_cast<bool>(storage); }
  int64_t elements() const { return rows * cols; }
  int64_t bytes() const { return elements() * size_of(dtype); }
  bool contiguous() const { return stride == cols || rows <= 1; }

  std::byte* row_bytes(int64_t row) const { return data + row * stride * size_of(dtype); }
  template <class T>
  T* row(int64_t r) const {
    return reinterpret_cast<T*>(row_bytes(r));
  }

  Tensor slice_rows(const Interval& r) const {
    TANDEM_CHECK(r.begin >= 0 && r.begin <= r.end && r.end <= rows, "rows {}..{} of {}", r.begin,
                 r.end, rows);
    Tensor view = *this;
    view.rows = r.size();
    if (data) view.data = row_bytes(r.begin);
    return view;
  }
  Tensor slice_cols(const Interval& c) const {
    TANDEM_CHECK(c.begin >= 0 && c.begin <= c.end && c.end <= cols, "columns {}..{} of {}", c.begin,
                 c.end, cols);
    Tensor view = *this;
    view.cols = c.size();
    if (data) view.data = data + c.begin * size_of(dtype);
    return view;
  }
  // Every row as cols / width rows of `width` columns; contiguous tensors alone.
  Tensor split_rows(int64_t width) const {
    TANDEM_CHECK(contiguous() && cols % width == 0, "rows of {} columns in pieces of {}", cols,
                 width);
    Tensor view = *this;
    view.rows = rows * (cols / width);
    view.cols = view.stride = width;
    return view;
  }
};

}  // namespace tandem
