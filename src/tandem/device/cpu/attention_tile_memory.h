// Memory of one thread, laid out piece by piece; it only grows, as Scratch does.
#pragma once

#include "tandem/device/cpu/blocks.h"
#include "tandem/device/cpu/scratch.h"

namespace tandem::cpu {

class TileMemory {
 public:
  // pieces(take) calls take(pointer, bytes) for each piece, twice: to learn the sizes, then to set
  // the pointers. Pieces begin at a cache line.
  template <class Pieces>
  void lay_out(const Pieces& pieces) {
    std::byte* base = nullptr;
    int64_t size = 0;
    const auto take = [&](auto*& pointer, int64_t bytes) {
      if (base) pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + size);
      size += (bytes + line_bytes - 1) / line_bytes * line_bytes;
    };
    pieces(take);
    base = scratch_.get<std::byte>(std::exchange(size, 0));
    pieces(take);
  }

 private:
  Scratch scratch_;
};

}  // namespace tandem::cpu
