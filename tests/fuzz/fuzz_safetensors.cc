// A safetensors file of any bytes is refused, or every tensor in it can be read to its last byte.
#include <cstdint>
#include <cstdlib>

#include "tandem/base/error.h"
#include "tandem/model/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const tandem::SafetensorsHeader header =
        tandem::parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz");
    unsigned sum = 0;
    for (const tandem::StoredTensor& tensor : header.tensors) {
      for (int64_t i = 0; i < tensor.bytes.size(); ++i)
        sum += static_cast<unsigned>(tensor.data[i]);
    }
    volatile unsigned keep = sum;
    (void)keep;
  } catch (const tandem::InputError&) {
  }
  return 0;
}
