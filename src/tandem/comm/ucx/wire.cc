#include "tandem/comm/ucx/wire.h"

#include <cstring>

namespace tandem::ucx {

Header header_of(const Message& message) {
  Header header{.sent_seconds = message.sent_seconds};
  for (int i = 0; i < 2; ++i) {
    const Tensor& t = message.parts[i];
    header.parts[i] = {.rows = t.rows, .cols = t.cols, .dtype = t.dtype, .present = bool{t}};
  }
  return header;
}

Tensor packed(const Message& message, const Header& header, Device& device) {
  const Tensor& first = message.parts[0];
  if (header.parts[1].bytes() == 0 && first.contiguous()) return first;
  Tensor all = device.allocate(1, header.bytes(), DType::fp8);  // elements of a byte
  std::byte* to = all.data;
  for (int i = 0; i < 2; ++i, to = all.data + header.second_part()) {
    const auto row_bytes =
        static_cast<size_t>(header.parts[i].cols * size_of(header.parts[i].dtype));
    for (int64_t r = 0; r < header.parts[i].rows && row_bytes > 0; ++r)
      std::memcpy(to + static_cast<size_t>(r) * row_bytes, message.parts[i].row_bytes(r),
                  row_bytes);
  }
  return all;
}

Header header_in(const Tensor& bytes) {
  Header header;
  if (bytes.cols < header_bytes) return {};
  std::memcpy(&header, bytes.data, sizeof(header));
  const bool sound = header.parts[0].sound() && header.parts[1].sound() &&
                     header_bytes + header.bytes() == bytes.cols;
  return sound ? header : Header{};
}

Message unpacked(const Header& header, const Tensor& bytes) {
  Message message{.sent_seconds = header.sent_seconds};
  for (int i = 0; i < 2; ++i) {
    const PartHeader& part = header.parts[i];
    if (!part.present) continue;
    message.parts[i] = {.storage = bytes.storage,
                        .data = bytes.data + header_bytes + (i == 1 ? header.second_part() : 0),
                        .dtype = part.dtype,
                        .rows = part.rows,
                        .cols = part.cols,
                        .stride = part.cols};
  }
  return message;
}

}  // namespace tandem::ucx
