// Memory that one thread keeps between calls for one purpose: it only grows, so that a steady state
// allocates nothing. Declare it `static thread_local`.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "tandem/base/error.h"

namespace tandem::cpu {

class Scratch {
 public:
  // At least `count` elements, 64-byte aligned; what it held before is lost when it grows.
  template <class T>
  T* get(int64_t count) {
    const auto bytes = static_cast<size_t>(count) * sizeof(T);
    if (bytes > capacity_) grow(bytes);
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  void grow(size_t bytes) {
    constexpr size_t page = 4096, huge_page = size_t{2} << 20;
    const size_t alignment = bytes >= huge_page / 2 ? huge_page : page;
    capacity_ = (bytes + bytes / 4 + alignment - 1) / alignment * alignment;
    memory_.reset();
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, capacity_)));
    if (!memory_) throw WorldError("out of memory: {} bytes asked for", capacity_);
    if (alignment == huge_page) madvise(memory_.get(), capacity_, MADV_HUGEPAGE);
#ifdef TANDEM_POISON
    // Neither a bf16 nor an f32 that a sum would survive: what is read before it is written shows.
    std::fill_n(reinterpret_cast<uint32_t*>(memory_.get()), capacity_ / sizeof(uint32_t),
                0x7f807f80u);
#endif
  }

  std::unique_ptr<std::byte, Free> memory_;
  size_t capacity_ = 0;
};

}  // namespace tandem::cpu
