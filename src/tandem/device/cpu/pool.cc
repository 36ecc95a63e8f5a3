#include "tandem/device/cpu/pool.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>

namespace tandem::cpu {

struct Pool::Block final : Storage {
  Block(std::byte* bytes, int size_class_) : Storage(bytes), size_class(size_class_) {}
  ~Block() override { std::free(bytes()); }
  void last_release() override {
    // The pool may go with this block, but not before give_back has returned.
    const std::shared_ptr<Pool> owner = std::move(pool);
    owner->give_back(this);
  }
  int size_class;
  std::shared_ptr<Pool> pool;  // set while handed out
};

// Sizes are 4, 5, 6, 7 times a power of two, from 64 bytes up.
int Pool::size_class(int64_t bytes) {
  const auto units = static_cast<uint64_t>((bytes + 63) / 64 * 64) / 16;  // >= 4
  const int exponent = static_cast<int>(std::bit_width(units)) - 3;  // units in [4, 8) << exponent
  const uint64_t quarter = (units + (uint64_t{1} << exponent) - 1) >> exponent;  // 4 .. 8
  return exponent * 4 + static_cast<int>(quarter - 4);
}

int64_t Pool::class_bytes(int size_class) {
  return (int64_t{4} + size_class % 4) * 16 << (size_class / 4);
}

Tensor Pool::allocate(int64_t rows, int64_t cols, DType dtype) {
  TANDEM_CHECK(rows >= 0 && cols >= 0, "allocate {} x {}", rows, cols);
  const int wanted = size_class(std::max<int64_t>(rows * cols * size_of(dtype), 1));
  Block* block = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (!free_[wanted].empty()) {
      block = free_[wanted].back();
      free_[wanted].pop_back();
    }
  }
  if (!block) {
    constexpr int64_t huge_page = 2 << 20;
    const int64_t bytes = class_bytes(wanted);
    const int64_t alignment = bytes >= huge_page ? huge_page : 64;
    auto* memory = static_cast<std::byte*>(
        std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment));
    if (!memory) throw WorldError("out of memory: {} bytes asked for", bytes);
    if (bytes >= huge_page) madvise(memory, bytes, MADV_HUGEPAGE);
    block = new Block(memory, wanted);
  }
  block->pool = shared_from_this();
  const int64_t now = allocated_.fetch_add(class_bytes(wanted)) + class_bytes(wanted);
  if (now > peak_.load(std::memory_order_relaxed)) peak_.store(now, std::memory_order_relaxed);
  return {.storage = StorageRef(block),
          .data = block->bytes(),
          .dtype = dtype,
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

void Pool::give_back(Block* block) {
  allocated_.fetch_sub(class_bytes(block->size_class));
  const std::lock_guard lock(mutex_);
  free_[block->size_class].push_back(block);
}

Pool::~Pool() {
  for (auto& blocks : free_)
    for (Block* block : blocks) delete block;
}

}  // namespace tandem::cpu
