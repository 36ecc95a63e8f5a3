#include "tandem/device/tensor.h"

namespace tandem {

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::fp8:
      return "fp8";
    case DType::int8:
      return "int8";
    case DType::i32:
      return "i32";
  }
  TANDEM_CHECK(false, "dtype {}", static_cast<int>(dtype));
}

DType parse_dtype(std::string_view name) {
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  if (name == "fp8") return DType::fp8;
  if (name == "int8") return DType::int8;
  throw InputError("dtype '{}' is not known: f32, bf16, fp8 or int8", name);
}

}  // namespace tandem
