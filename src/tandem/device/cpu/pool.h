// Memory of one rank: blocks of a few sizes that are kept and handed out again, so that a decode
// step allocates nothing. allocate() is called by the rank's thread; blocks may come back from any
// thread. The pool outlives its blocks: it is itself counted by them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "tandem/device/tensor.h"

namespace tandem::cpu {

class Pool : public std::enable_shared_from_this<Pool> {
 public:
  ~Pool();
  Tensor allocate(int64_t rows, int64_t cols, DType dtype);
  int64_t allocated_bytes() const { return allocated_.load(std::memory_order_relaxed); }
  int64_t peak_bytes() const { return peak_.load(std::memory_order_relaxed); }

 private:
  struct Block;
  static constexpr int classes = 160;  // four sizes for each power of two
  static int size_class(int64_t bytes);
  static int64_t class_bytes(int size_class);
  void give_back(Block* block);

  std::mutex mutex_;
  std::array<std::vector<Block*>, classes> free_;
  std::atomic<int64_t> allocated_{0}, peak_{0};
};

}  // namespace tandem::cpu
