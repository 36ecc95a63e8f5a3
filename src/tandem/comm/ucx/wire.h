// How a message travels, as one run of bytes: a header of fixed size, then both tensors, row by row
// without gaps, each from a multiple of 64 on.
#pragma once

#include "tandem/comm/envelope.h"
#include "tandem/device/device.h"

namespace tandem::ucx {

struct PartHeader {
  int64_t rows = 0, cols = 0;
  DType dtype = DType::f32;
  bool present = false;
  int64_t bytes() const { return rows * cols * size_of(dtype); }
  // Whether it can be what a peer has sent; sizes are bounded so that nothing overflows.
  bool sound() const {
    constexpr int64_t most = int64_t{1} << 31;
    return rows >= 0 && cols >= 0 && rows < most && cols < most && rows * cols < (most << 16) &&
           dtype <= DType::i32;
  }
};

struct Header {
  uint64_t key = 0;       // of the run: what does not have it is a stranger's
  int32_t process = -1;   // that sends
  uint64_t sequence = 0;  // counts its messages to this one
  Envelope envelope;
  double sent_seconds = 0;
  PartHeader parts[2];

  int64_t second_part() const { return (parts[0].bytes() + 63) / 64 * 64; }
  // Of the tensors.
  int64_t bytes() const {
    return parts[1].bytes() > 0 ? second_part() + parts[1].bytes() : parts[0].bytes();
  }
};
inline constexpr int64_t header_bytes = 192;
static_assert(sizeof(Header) <= header_bytes);

Header header_of(const Message& message);
// The tensors of a message as one run of memory: its own where they lie so, else a copy.
Tensor packed(const Message& message, const Header& header, Device& device);

// The header at the beginning of what has come; process -1 unless it can be one and fits the bytes.
Header header_in(const Tensor& bytes);
Message unpacked(const Header& header, const Tensor& bytes);

}  // namespace tandem::ucx
