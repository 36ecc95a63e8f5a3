#include "tandem/state/parameter_store.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tandem/device/block_scales.h"

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

// Numbers of a row of a stored tensor of any alignment, from a column on.
void read_stored(const StoredTensor& stored, const StoredTensor* factors, int64_t row, int64_t col,
                 std::span<float> values) {
  const int64_t cols = stored.shape.back();
  const std::byte* from = stored.data + (row * cols + col) * size_of(stored.dtype);
  const auto bits_at = [&](size_t i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, 2);
    return bits;
  };
  switch (stored.dtype) {
    case StoredType::f32:
      std::memcpy(values.data(), from, values.size_bytes());
      break;
    case StoredType::bf16:
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = std::bit_cast<float>(uint32_t{bits_at(i)} << 16);
      break;
    case StoredType::f16:
      for (size_t i = 0; i < values.size(); ++i) values[i] = half_to_float(bits_at(i));
      break;
    default:  // fp8: what ModelFiles lets through besides
      for (size_t i = 0; i < values.size(); ++i) {
        const int64_t block = row / scale_block * blocks_to_scale(cols) +
                              (col + static_cast<int64_t>(i)) / scale_block;
        float factor;
        std::memcpy(&factor, factors->data + 4 * block, 4);
        values[i] = factor * fp8_to_float(static_cast<uint8_t>(from[i]));
      }
  }
}

// Copies rows of a stored tensor into `to`.
void copy_stored(const StoredTensor& stored, const StoredTensor* factors, const Interval& rows,
                 const Tensor& to, Device& device) {
  constexpr int64_t chunk = 1 << 16;
  const Tensor staging = device.allocate(1, chunk, DType::f32);
  for (int64_t r = 0; r < rows.size(); ++r)
    for (int64_t c = 0; c < to.cols; c += chunk) {
      const int64_t count = std::min(chunk, to.cols - c);
      const Tensor piece = staging.slice_cols({0, count});
      read_stored(stored, factors, rows.begin + r, c,
                  {piece.row<float>(0), static_cast<size_t>(count)});
      device.execute(
          CopyRows{.from = piece, .to = to.slice_rows({r, r + 1}).slice_cols({c, c + count})});
    }
}

// New memory for a parameter, filled by fill(rows, tensor for them): whole, or quantised from f32 a
// block of rows at a time.
template <class Fill>
Tensor filled(const Parameter& p, DType dtype, Device& device, const Fill& fill) {
  if (!eight_bits(dtype)) {
    Tensor tensor = device.allocate(p.rows, p.cols, dtype);
    fill(Interval{0, p.rows}, tensor);
    return tensor;
  }
  Tensor tensor =
      with_scales(device.allocate(p.rows, p.cols, dtype),
                  device.allocate(blocks_to_scale(p.rows), blocks_to_scale(p.cols), DType::f32));
  const Tensor staging = device.allocate(scale_block, p.cols, DType::f32);
  for (int64_t first = 0; first < p.rows; first += scale_block) {
    const Interval rows{first, std::min(first + scale_block, p.rows)};
    const Tensor some = staging.slice_rows({0, rows.size()});
    fill(rows, some);
    device.execute(Quantise{.from = some, .to = tensor.slice_rows(rows)});
  }
  return tensor;
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

// Norms begin as the identity, biases as nothing.
float first_value(ParameterKind kind) {
  using enum ParameterKind;
  const bool scale = kind == attention_norm || kind == expert_norm || kind == final_norm ||
                     kind == query_latent_norm || kind == latent_norm || kind == query_norm ||
                     kind == key_norm;
  return scale ? 1.0f : 0.0f;
}

}  // namespace

DType computed_dtype(const ModelFiles& files) {
  const StoredTensor& first = files.find(parameters(files.config()).front());
  return first.dtype == StoredType::f32 ? DType::f32 : DType::bf16;
}

Tensor random_parameter(const ModelConfig& config, const Parameter& p, uint64_t item, uint64_t seed,
                        DType dtype, Device& device) {
  return filled(
      p, stored_dtype(p.id.kind, dtype), device, [&](const Interval& rows, const Tensor& to) {
        if (p.is_vector()) return fill(to, first_value(p.id.kind), device);
        device.execute(FillNormal{.x = to,
                                  .deviation = static_cast<float>(config.initializer_range),
                                  .seed = seed,
                                  .item = item,
                                  .first_row = rows.begin,
                                  .full_cols = p.cols});
      });
}

DType stored_dtype(ParameterKind kind, DType dtype) {
  using enum ParameterKind;
  switch (kind) {
    case query_latent:
    case latent_up:
    case query:
    case key:
    case value:
    case attention_output:
    case expert_gate:
    case expert_up:
    case expert_down:
    case shared_gate:
    case shared_up:
    case shared_down:
      return dtype;
    case head:
      return dtype == DType::int8 ? dtype : compute_type(dtype);
    case router_bias:  // its steps are finer than bf16 where it has grown
      return DType::f32;
    default:
      return compute_type(dtype);
  }
}

int64_t weight_bytes(const std::vector<Region>& regions, DType dtype) {
  int64_t bytes = 0;
  for (const Region& region : regions)
    bytes += region.elements() * size_of(stored_dtype(region.id.kind, dtype));
  return bytes;
}

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
  store.trainable_ = trainable;
  for (const Parameter& p : parameters(store.config())) {
    Tensor& tensor = store.tensors_[p.id];
    const DType wanted = stored_dtype(p.id.kind, dtype);
    if (p.name.empty()) {
      tensor = device.allocate(p.rows, p.cols, wanted);
      fill(tensor, 0, device);
      continue;
    }
    const StoredTensor& stored = store.files_->find(p);
    const StoredTensor* factors = store.files_->factors_of(p.name);
    if (!trainable && usable_in_place(stored, wanted)) {
      tensor = view_of(stored.data, p.rows, p.cols, wanted);
      store.mapped_bytes_ += tensor.bytes();
    } else {
      tensor = filled(p, wanted, device, [&](const Interval& rows, const Tensor& to) {
        copy_stored(stored, factors, rows, to, device);
      });
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
    tensor = random_parameter(config, p, item++, seed, dtype, device);
    store.copied_bytes_ += tensor.bytes();
  }
  return store;
}

ParameterStore ParameterStore::blank(const ModelConfig& config, DType dtype, Device& device) {
  ParameterStore store(config, dtype);
  for (const Parameter& p : parameters(config))
    store.tensors_[p.id] = device.allocate(p.rows, p.cols, stored_dtype(p.id.kind, dtype));
  return store;
}

std::filesystem::path ParameterStore::directory() const {
  return files_ && !trainable_ ? files_->directory() : std::filesystem::path();
}

ParameterStore ParameterStore::shapes(const ModelConfig& config, DType dtype) {
  ParameterStore store(config, dtype);
  for (const Parameter& p : parameters(config))
    store.tensors_[p.id] = view_of(nullptr, p.rows, p.cols, stored_dtype(p.id.kind, dtype));
  return store;
}

Tensor ParameterStore::region(const Region& region) const {
  return tensors_.at(region.id).slice_rows(region.rows).slice_cols(region.cols);
}

}  // namespace tandem
