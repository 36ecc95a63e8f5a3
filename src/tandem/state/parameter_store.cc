#include "tandem/state/parameter_store.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace tandem {
namespace {

class ForeignStorage final : public Storage {
 public:
  using Storage::Storage;
  void last_release() override { delete this; }
};

float half_to_float(uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  float magnitude;
  if (exponent == 31)
    magnitude =
        fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  else if (exponent == 0)
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  else
    magnitude = std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

// Copies a stored tensor of any alignment into `to`, row by row.
void copy_stored(const StoredTensor& stored, const Tensor& to, Device& device) {
  constexpr int64_t chunk = 1 << 16;
  const int64_t element_bytes = size_of(stored.dtype);
  const Tensor staging = device.allocate(1, chunk, DType::f32);
  for (int64_t r = 0; r < to.rows; ++r)
    for (int64_t c = 0; c < to.cols; c += chunk) {
      const int64_t count = std::min(chunk, to.cols - c);
      const std::byte* from = stored.data + (r * to.cols + c) * element_bytes;
      Tensor piece = staging.slice_cols({0, count});
      float* values = piece.row<float>(0);
      for (int64_t i = 0; i < count; ++i) {
        if (stored.dtype == StoredType::f32) {
          std::memcpy(values + i, from + 4 * i, 4);
        } else {
          uint16_t bits;
          std::memcpy(&bits, from + 2 * i, 2);
          values[i] = stored.dtype == StoredType::bf16 ? std::bit_cast<float>(uint32_t{bits} << 16)
                                                       : half_to_float(bits);
        }
      }
      device.execute(
          CopyRows{.from = piece, .to = to.slice_rows({r, r + 1}).slice_cols({c, c + count})});
    }
}

bool usable_in_place(const StoredTensor& stored, DType dtype) {
  const bool same = (stored.dtype == StoredType::f32 && dtype == DType::f32) ||
                    (stored.dtype == StoredType::bf16 && dtype == DType::bf16);
  return same && reinterpret_cast<uintptr_t>(stored.data) % size_of(dtype) == 0;
}

void fill(const Tensor& t, float value, Device& device) {
  device.execute(Zero{.x = t});
  if (value == 0) return;
  const std::vector<float> values(t.elements(), value);
  device.execute(CopyRows{.from = device.upload(values, t.rows, t.cols), .to = t});
}

}  // namespace

Tensor view_of(const std::byte* bytes, int64_t rows, int64_t cols, DType dtype) {
  auto* data = const_cast<std::byte*>(bytes);  // a mapped weight is never written
  return {.storage = StorageRef(new ForeignStorage(data)),
          .data = data,
          .dtype = dtype,
          .rows = rows,
          .cols = cols,
          .stride = cols};
}

ParameterStore ParameterStore::load(std::shared_ptr<const ModelFiles> files, DType dtype,
                                    bool trainable, Device& device) {
  ParameterStore store(files->config(), dtype);
  store.files_ = std::move(files);
  for (const Parameter& p : parameters(store.config())) {
    const StoredTensor& stored = store.files_->find(p);
    Tensor& tensor = store.tensors_[p.id];
    if (!trainable && usable_in_place(stored, dtype)) {
      tensor = view_of(stored.data, p.rows, p.cols, dtype);
      store.mapped_bytes_ += tensor.bytes();
    } else {
      tensor = device.allocate(p.rows, p.cols, dtype);
      copy_stored(stored, tensor, device);
      store.files_->release_pages(stored);
      store.copied_bytes_ += tensor.bytes();
    }
  }
  return store;
}

ParameterStore ParameterStore::random(const ModelConfig& config, uint64_t seed, DType dtype,
                                      Device& device) {
  ParameterStore store(config, dtype);
  uint64_t item = 0;
  for (const Parameter& p : parameters(config)) {
    Tensor& tensor = store.tensors_[p.id];
    tensor = device.allocate(p.rows, p.cols, dtype);
    store.copied_bytes_ += tensor.bytes();
    if (p.is_vector()) {
      using enum ParameterKind;
      const bool scale = p.id.kind == attention_norm || p.id.kind == expert_norm ||
                         p.id.kind == final_norm || p.id.kind == query_latent_norm ||
                         p.id.kind == latent_norm;
      fill(tensor, scale ? 1.0f : 0.0f, device);
    } else {
      device.execute(FillNormal{.x = tensor,
                                .deviation = static_cast<float>(config.initializer_range),
                                .seed = seed,
                                .item = item,
                                .full_cols = p.cols});
    }
    ++item;
  }
  return store;
}

ParameterStore ParameterStore::shapes(const ModelConfig& config, DType dtype) {
  ParameterStore store(config, dtype);
  for (const Parameter& p : parameters(config))
    store.tensors_[p.id] = view_of(nullptr, p.rows, p.cols, dtype);
  return store;
}

Tensor ParameterStore::region(const Region& region) const {
  return tensors_.at(region.id).slice_rows(region.rows).slice_cols(region.cols);
}

}  // namespace tandem
